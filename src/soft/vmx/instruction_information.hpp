#pragma once
#include "soft/vmx/state.hpp"

// VM-exit instruction information (SDM 3C §28.2.5), by the group of instructions that share a format.
namespace abyme::soft::vmx {

// Registers are byte offsets into Cpu::gpr; bits 2:0 of an offset pick a high byte.
[[nodiscard]] constexpr u32 register_number(u8 slot) { return slot / 8u; }

// VMCLEAR, VMPTRLD, VMPTRST, VMXON, XSAVES, XRSTORS: the memory operand (or the register that stands for it).
[[nodiscard]] u32 memory_information(const Op &op);
// INVEPT, INVVPID, INVPCID, VMREAD, VMWRITE: also Reg2.
[[nodiscard]] u32 with_second_register(const Op &op);
// SGDT 0, SIDT 1, LGDT 2, LIDT 3.
[[nodiscard]] u32 table_information(const Op &op, u32 identity);
// SLDT 0, STR 1, LLDT 2, LTR 3.
[[nodiscard]] u32 selector_information(const Op &op, u32 identity);
// RDRAND, RDSEED.
[[nodiscard]] u32 random_information(const Op &op, u8 destination);
// INS, OUTS.
[[nodiscard]] u32 string_io_information(const Op &op);
// The displacement of the memory operand, as the exit qualification has it.
[[nodiscard]] u64 displacement(const Cpu &cpu, const Op &op);

} // namespace abyme::soft::vmx
