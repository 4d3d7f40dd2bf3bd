#pragma once
#include "soft/cpu.hpp"
#include <Zydis/Zydis.h>

namespace abyme::soft {

// What a block builder must know of an instruction beside its Op.
struct Extent {
  bool ends = false;  // the block ends behind it
  bool links = false; // op.data must become a Link
};

// An instruction on its way from Zydis to an Op whose generic fields are filled.
struct Translating {
  Cpu &cpu;
  const ZydisDecodedInstruction &instruction;
  const ZydisDecodedOperand *operands;
  Op &op;
  Extent &extent;
};

// Picks the handler by the table's row for the mnemonic. False: there is none.
[[nodiscard]] bool translate_by_table(const Translating &t);

[[nodiscard]] u8 gpr_slot(ZydisRegister r);
// The segment of a memory operand, Op::kFlat where it needs no look.
[[nodiscard]] u8 segment_for(const Cpu &cpu, ZydisRegister r);

} // namespace abyme::soft
