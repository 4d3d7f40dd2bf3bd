#pragma once
#include "soft/vmx/state.hpp"

namespace abyme::soft::vmx {

// What becomes of RF in the saved RFLAGS (SDM 3C §28.3.3).
enum class SavedRf : u8 { Keep, Clear, Set };

// The VM-exit information fields (SDM 3C §28.2).
struct Exit {
  x86::ExitReason reason{};
  u64 qualification = 0;
  u32 length = 0;       // of the instruction
  u32 information = 0;  // about the instruction
  u32 interruption = 0; // interruption information, with kValid
  u32 error = 0;        // of the interruption
  u64 linear = 0;
  u64 physical = 0; // L2's
  SavedRf rf = SavedRf::Keep;
};

// Non-root operation ends: records `exit`, saves the guest's state and loads the host's (SDM 3C chapter 28). cpu.rip is
// the guest's RIP to save; afterwards it is the host's.
void vm_exit(Cpu &cpu, const Exit &exit);
// The exit that an instruction causes instead of executing.
Outcome exit_for_instruction(Cpu &cpu, const Op &op, x86::ExitReason reason, u64 qualification = 0,
                             u32 information = 0);
// VM entry failed after its checks on controls and host state (SDM 3C §27.8): back to the host, no guest state saved.
void fail_entry(Cpu &cpu, x86::ExitReason reason, u64 qualification);
// The logical processor shuts down, with an indicator in the VMCS region (SDM 3C §28.7).
void abort(Cpu &cpu, x86::VmxAbort why);

// The event, as interruption or IDT-vectoring information.
[[nodiscard]] u32 event_information(const Event &event);

// --- MSR areas (msr_areas.cpp). Number of the first entry, counted from 1, that cannot be processed; 0: none. ---
[[nodiscard]] u32 load_msr_area(Cpu &cpu, u64 address, u32 count);
[[nodiscard]] u32 store_msr_area(Cpu &cpu, u64 address, u32 count);

// --- VMX-preemption timer (preemption_timer.cpp) ---
void start_preemption_timer(Cpu &cpu);
[[nodiscard]] u32 preemption_timer_value(const Cpu &cpu);

} // namespace abyme::soft::vmx
