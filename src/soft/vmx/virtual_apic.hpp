#pragma once
#include "soft/vmx/exit.hpp"

// The virtual-APIC page and what follows from writes to it: SDM 3C chapter 30.
namespace abyme::soft::vmx {

// Offsets of registers in the page.
namespace apic_register {
constexpr u32 Id = 0x20, Version = 0x30, Tpr = 0x80, Ppr = 0xA0, Eoi = 0xB0, Ldr = 0xD0, Dfr = 0xE0, Svr = 0xF0,
              Isr = 0x100, Tmr = 0x180, Irr = 0x200, Esr = 0x280, IcrLow = 0x300, IcrHigh = 0x310, LvtTimer = 0x320,
              LvtError = 0x370, InitialCount = 0x380, DivideConfiguration = 0x3E0, SelfIpi = 0x3F0;
}

[[nodiscard]] u32 load_virtual(const Cpu &cpu, u32 offset);
void store_virtual(Cpu &cpu, u32 offset, u32 value);

// At VM entry: the TPR threshold, and virtual interrupts that may be pending (SDM 3C §27.7.7, §27.3.2.5).
void evaluate_virtual_apic(Cpu &cpu);
// After a write to VTPR; with an exit if it fell below the threshold. cpu.rip is the next instruction's. True: a VM
// exit.
[[nodiscard]] bool virtualize_tpr(Cpu &cpu);
[[nodiscard]] bool virtualize_eoi(Cpu &cpu);
void virtualize_self_ipi(Cpu &cpu, u8 vector);
// APIC-write emulation of the write that is noted in Vmx (SDM 3C §30.4.3.2). True: a VM exit.
[[nodiscard]] bool emulate_apic_write(Cpu &cpu);

// Virtual interrupts (SDM 3C §30.2).
void evaluate_virtual_interrupts(Cpu &cpu);
void deliver_virtual_interrupt(Cpu &cpu);
// The posted-interrupt descriptor's requests become virtual ones (SDM 3C §30.6).
void process_posted_interrupts(Cpu &cpu);

} // namespace abyme::soft::vmx
