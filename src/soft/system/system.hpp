#pragma once
#include "soft/cpu.hpp"

// Protection, events and system instructions, as the interpreter and VT-x call them.
namespace abyme::soft::system {

// --- state ---
void reset(Cpu &cpu);  // RESET
void init(Cpu &cpu);   // INIT: as reset, but CR0.CD/NW, MSRs, FPU and XCR0 keep theirs (SDM 3A table 10-1)
void start_up(Cpu &cpu, u8 vector); // SIPI
void set_state(Cpu &cpu, const x86::CpuState &state);
[[nodiscard]] x86::CpuState get_state(const Cpu &cpu);

// --- events ---
// Delivers one event through the IDT (real, protected, V86 or 64-bit mode; gates, stack switches, IST, task gates). cpu.rip is
// the return address; for INT n, INT1, INT3 and INTO it is the instruction's own, and event.length is added to what is pushed, as at VM
// entry (SDM 3C §27.6.1). False: cpu.fault holds what went wrong on the way; state is as before.
[[nodiscard]] bool deliver(Cpu &cpu, const Event &event);
// cpu.fault is an exception that an instruction (or a delivery) raised: delivers it, with double and triple faults by the contributory
// rules, VM exits by vmx::intercepts_event. Sets cpu.activity to Shutdown after a triple fault outside of non-root operation.
void deliver_fault(Cpu &cpu);
// As deliver(), but an event that fails on the way becomes what the manual says: for interrupts, injected events and traps.
void deliver_event(Cpu &cpu, const Event &event);

// --- control registers, with the checks of MOV to CR. False: cpu.fault is #GP(0). They flush and select contexts as due. ---
[[nodiscard]] bool write_cr0(Cpu &cpu, u64 value);
[[nodiscard]] bool write_cr3(Cpu &cpu, u64 value);
[[nodiscard]] bool write_cr4(Cpu &cpu, u64 value);
[[nodiscard]] bool write_efer(Cpu &cpu, u64 value);
[[nodiscard]] bool write_xcr0(Cpu &cpu, u64 value);
// MSRs without intercepts: false is #GP(0), not yet raised. Used by RDMSR/WRMSR and by VT-x's MSR areas.
[[nodiscard]] bool read_msr(Cpu &cpu, u32 msr, u64 &value);
[[nodiscard]] bool write_msr(Cpu &cpu, u32 msr, u64 value);

// --- I/O permission: CPL against IOPL, then the TSS's bitmap (SDM 1 §19.5). False: #GP(0), or a fault of reading the bitmap. ---
[[nodiscard]] bool io_allowed(Cpu &cpu, u16 port, unsigned size);

// --- instructions that share their mnemonic with ones that are not system's: the decoder tells them apart by their operands.
// reg_index is the segment, control or debug register; a far pointer has its offset in imm and its selector in disp. ---
Outcome mov_to_segment(Cpu &cpu, const Op &op);
Outcome mov_from_segment(Cpu &cpu, const Op &op);
Outcome push_segment(Cpu &cpu, const Op &op);
Outcome pop_segment(Cpu &cpu, const Op &op);
Outcome mov_to_cr(Cpu &cpu, const Op &op);
Outcome mov_from_cr(Cpu &cpu, const Op &op);
Outcome mov_to_dr(Cpu &cpu, const Op &op);
Outcome mov_from_dr(Cpu &cpu, const Op &op);
Outcome jump_far(Cpu &cpu, const Op &op);
Outcome call_far(Cpu &cpu, const Op &op);
Outcome return_far(Cpu &cpu, const Op &op); // imm: bytes of parameters to release

// --- the instruction table's part: returns nullptr where the mnemonic is not system's ---
[[nodiscard]] SlowHandler handler(u16 mnemonic, const Op &op);

} // namespace abyme::soft::system
