#pragma once
#include "base/int.hpp"
#include <Zydis/Zydis.h>
#include <array>
#include <string_view>

namespace abyme::soft::hostexec {

// General registers of the host while a stub's instruction executes. They keep the guest's numbers, but for RSP, which
// the host needs.
struct RegisterMap {
  u16 guest_used = 0; // guest registers that the instruction names or implies, a bit each
  u16 guest_written = 0;
  u8 stack_pointer = 4; // where the guest's RSP is, when it is used
  u8 memory = 6;        // holds the address of the memory operand; needs no REX prefix
  u8 state = 7;         // holds the Cpu
  bool flags = false;   // RAX carries the flags in and out
};

struct Encoded {
  std::array<u8, 16> bytes{};
  u8 length = 0;
  void put(u64 value, unsigned size = 1) {
    for (unsigned i = 0; i < size; ++i) bytes[length++] = static_cast<u8>(value >> (8 * i));
  }
  [[nodiscard]] std::string_view view() const { return {reinterpret_cast<const char *>(bytes.data()), length}; }
};

// Whether the instruction's status flags go in and out.
[[nodiscard]] bool touches_flags(const ZydisDecodedInstruction &instruction);
// False: more registers than a stub can spare (no instruction has so many).
[[nodiscard]] bool map_registers(const ZydisDecodedInstruction &instruction, const ZydisDecodedOperand *operands,
                                 RegisterMap &map);
// The instruction as 64-bit code for the host: the memory operand is [map.memory], prefixes without meaning are gone.
// `general`: its operand size comes from the decoder, as it does for general-purpose instructions.
[[nodiscard]] Encoded reencode(const ZydisDecodedInstruction &instruction, const ZydisDecodedOperand *operands,
                               const RegisterMap &map, bool general);

} // namespace abyme::soft::hostexec
