#pragma once
#include "soft/cpu.hpp"

namespace abyme::soft::system {

// Replaces the RFLAGS bits in `mask`, and has the run loop look at what their change allows: single steps, interrupts,
// windows.
void write_flags(Cpu &cpu, u64 value, u64 mask);

// Bits that any program may change; the rest depends on CPL, IOPL, mode and operand size.
constexpr u64 kFreeFlags = x86::rflags::kStatus | x86::rflags::TF | x86::rflags::DF | x86::rflags::NT;
constexpr u64 kFreeFlags32 = x86::rflags::AC | x86::rflags::ID; // with 32-bit operands

// CR4.VME (or PVI at CPL 3), IOPL below 3: IF is virtualized by VIF (SDM 3B §21.3, §21.4).
[[nodiscard]] bool virtual_interrupt_flag(const Cpu &cpu);

} // namespace abyme::soft::system
