#pragma once
#include "soft/decode/table.hpp"

namespace abyme::soft {

// What the decoder found at a place.
enum class Decoded : u8 {
  Instruction, // op is filled
  Truncated,   // needs bytes beyond those given
};

// Decodes one instruction for the CPU's current mode and picks its handler. `offset` is the first byte's place in its page. What is not an
// instruction, or not one that the CPU's model has, becomes an op that raises #UD. 
struct Decoder {
  explicit Decoder(const Cpu &cpu);
  [[nodiscard]] Decoded decode(Cpu &cpu, const u8 *bytes, size_t available, u16 offset, Op &op, Extent &extent);

private:
  ZydisDecoder zydis_;
};

} // namespace abyme::soft
