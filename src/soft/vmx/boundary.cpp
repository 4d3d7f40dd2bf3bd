// What happens between two instructions of a guest: SDM 3C §26.2, §26.5, §26.6, §27.7; priorities of SDM 3A table 6-2.
#include "soft/apic/local_apic.hpp"
#include "soft/vmx/virtual_apic.hpp"

namespace abyme::soft::vmx {
namespace {

using x86::ExitReason;
namespace interruption = x86::interruption;
namespace pin = x86::pin;
namespace primary = x86::primary;

bool take(Cpu &cpu, u32 bits) {
  if (!(cpu.attention.load(std::memory_order_relaxed) & bits)) return false;
  return cpu.attention.fetch_and(~bits, std::memory_order_seq_cst) & bits;
}

bool exit_with(Cpu &cpu, ExitReason reason, u64 qualification = 0) {
  vm_exit(cpu, {.reason = reason, .qualification = qualification});
  return true;
}

// --- conditions ---

[[nodiscard]] bool timer_expired(const Cpu &cpu) {
  const Nanoseconds deadline = cpu.vmx->preemption_deadline;
  return deadline != kNever && cpu.activity != Activity::WaitForSipi && deadline <= cpu.clock->now();
}

[[nodiscard]] bool takes_interrupts(const Cpu &cpu) {
  return cpu.activity == Activity::Active || cpu.activity == Activity::Halted;
}

[[nodiscard]] bool nmi_window_open(const Cpu &cpu) {
  return primary_on(cpu, primary::NmiWindow) && !cpu.nmi_blocked && !cpu.shadow &&
         cpu.activity != Activity::WaitForSipi;
}

[[nodiscard]] bool interrupts_enabled(const Cpu &cpu) {
  return (cpu.rflags_rest & x86::rflags::IF) && !cpu.shadow && takes_interrupts(cpu);
}

[[nodiscard]] bool interrupt_window_open(const Cpu &cpu) {
  return primary_on(cpu, primary::InterruptWindow) && interrupts_enabled(cpu);
}

// With virtual NMIs, what cpu.nmi_blocked holds concerns the guest's own.
[[nodiscard]] bool nmi_exits(const Cpu &cpu) {
  const bool blocked = pin_on(cpu, pin::VirtualNmis) ? cpu.vmx->physical_nmi_blocked : cpu.nmi_blocked;
  return cpu.nmi_pending && pin_on(cpu, pin::NmiExiting) && !blocked && !cpu.shadow &&
         cpu.activity != Activity::WaitForSipi;
}

[[nodiscard]] bool external_pending(const Cpu &cpu) {
  return cpu.index == 0 && cpu.pic && (!cpu.apic || cpu.apic->accepts_external()) && cpu.pic->pending();
}

[[nodiscard]] bool interrupt_pending(const Cpu &cpu) {
  return external_pending(cpu) || (cpu.apic && cpu.apic->pending_vector());
}

[[nodiscard]] bool interrupt_exits(const Cpu &cpu) {
  return external_interrupts_exit(cpu) && !cpu.shadow && takes_interrupts(cpu) && interrupt_pending(cpu);
}

[[nodiscard]] bool virtual_interrupt_due(const Cpu &cpu) {
  return non_root(cpu) && cpu.vmx->virtual_interrupt && interrupts_enabled(cpu);
}

// --- what follows from them ---

// Traps of the instruction before: APIC-write emulation, the TPR threshold at VM entry, the monitor trap flag.
[[nodiscard]] bool trap_exits(Cpu &cpu) {
  Vmx &vmx = *cpu.vmx;
  if (vmx.apic_write_pending && emulate_apic_write(cpu)) return true;
  if (vmx.tpr_below_threshold) {
    vmx.tpr_below_threshold = false;
    return exit_with(cpu, ExitReason::TprBelowThreshold);
  }
  if (vmx.monitor_trap) return exit_with(cpu, ExitReason::MonitorTrapFlag);
  if (primary_on(cpu, primary::MonitorTrapFlag)) {
    vmx.monitor_trap = true;
    cpu.need(kAttentionEvents);
  }
  return false;
}

// INIT waits while the guest waits for a SIPI; a SIPI that nobody waits for is lost.
[[nodiscard]] bool init_or_sipi_exits(Cpu &cpu) {
  const bool waiting = cpu.activity == Activity::WaitForSipi;
  if (take(cpu, kAttentionSipi) && waiting) return exit_with(cpu, ExitReason::Sipi, cpu.sipi_vector);
  return !waiting && take(cpu, kAttentionInit) && exit_with(cpu, ExitReason::Init);
}

bool nmi_exit(Cpu &cpu) {
  cpu.nmi_pending = false;
  vm_exit(cpu, {.reason = ExitReason::ExceptionOrNmi,
                .interruption = event_information({.type = EventType::Nmi, .vector = x86::NMI})});
  cpu.nmi_blocked = true;
  return true;
}

[[nodiscard]] u8 acknowledge(Cpu &cpu) {
  return external_pending(cpu) ? cpu.pic->acknowledge() : cpu.apic->acknowledge();
}

bool interrupt_exit(Cpu &cpu) {
  Exit exit{.reason = ExitReason::ExternalInterrupt};
  if (cpu.vmx->controls.exit & x86::exit_control::AcknowledgeInterrupt)
    exit.interruption = event_information({.type = EventType::ExternalInterrupt, .vector = acknowledge(cpu)});
  else
    cpu.interrupt_waiting = true;
  vm_exit(cpu, exit);
  return true;
}

// SDM 3C §30.6: the notification vector is consumed without a VM exit.
[[nodiscard]] bool is_posted_notification(const Cpu &cpu) {
  if (!pin_on(cpu, pin::PostedInterrupts) || external_pending(cpu)) return false;
  const auto vector = cpu.apic->pending_vector();
  return vector && *vector == cpu.vmx->vmcs[Field::PostedInterruptVector];
}

void take_posted_interrupts(Cpu &cpu) {
  constexpr u32 kEoi = 0xB0, kEoiMsr = 0x80B;
  (void)cpu.apic->acknowledge();
  if (cpu.apic->page())
    cpu.apic->write(kEoi, 4, 0);
  else
    (void)cpu.apic->msr_write(kEoiMsr, 0);
  process_posted_interrupts(cpu);
}

[[nodiscard]] bool interrupts(Cpu &cpu) {
  if (nmi_window_open(cpu)) return exit_with(cpu, ExitReason::NmiWindow);
  if (nmi_exits(cpu)) return nmi_exit(cpu);
  if (interrupt_window_open(cpu)) return exit_with(cpu, ExitReason::InterruptWindow);
  while (interrupt_exits(cpu)) {
    if (!is_posted_notification(cpu)) return interrupt_exit(cpu);
    take_posted_interrupts(cpu);
  }
  if (!virtual_interrupt_due(cpu)) return false;
  deliver_virtual_interrupt(cpu);
  return !non_root(cpu);
}

// A debug trap of the last instruction is delivered before anything of lower priority is looked at.
[[nodiscard]] bool debug_trap_due(const Cpu &cpu) {
  return cpu.pending_debug && !(cpu.shadow & kShadowMovSs) && cpu.activity == Activity::Active;
}

// What a shadow holds back is due at the next boundary; what IF or blocking by NMI holds back, when those change.
void ask_again(Cpu &cpu) {
  const Vmx &vmx = *cpu.vmx;
  const bool wanted = (vmx.controls.primary & (primary::InterruptWindow | primary::NmiWindow)) || vmx.virtual_interrupt;
  const bool held = external_interrupts_exit(cpu) && interrupt_pending(cpu);
  if ((wanted || held) && cpu.shadow) cpu.need(kAttentionEvents);
  if (held && cpu.shadow) cpu.need(kAttentionInterrupt);
  if (external_interrupts_exit(cpu)) cpu.interrupt_waiting = wanted || held;
  if (wanted) cpu.interrupt_waiting = true;
}

// Signals of other threads become state before that state is looked at: one that comes later raises its bit again.
void absorb_signals(Cpu &cpu) {
  take(cpu, kAttentionPreemption | kAttentionPosted);
  if (!non_root(cpu)) return;
  if (take(cpu, kAttentionNmi)) cpu.nmi_pending = true;
  if (external_interrupts_exit(cpu)) take(cpu, kAttentionInterrupt);
}

} // namespace

bool external_interrupts_exit(const Cpu &cpu) { return pin_on(cpu, pin::ExternalInterruptExiting); }

bool nmis_exit(const Cpu &cpu) { return pin_on(cpu, pin::NmiExiting); }

bool boundary_events(Cpu &cpu) {
  absorb_signals(cpu);
  if (!non_root(cpu)) return false;
  if (trap_exits(cpu) || init_or_sipi_exits(cpu)) return true;
  if (debug_trap_due(cpu)) {
    cpu.need(kAttentionEvents);
    return false;
  }
  if (timer_expired(cpu)) return exit_with(cpu, ExitReason::PreemptionTimer);
  if (interrupts(cpu)) return true;
  ask_again(cpu);
  return false;
}

bool wakes(const Cpu &cpu) {
  if (!non_root(cpu)) return false;
  const Vmx &vmx = *cpu.vmx;
  return vmx.monitor_trap || vmx.tpr_below_threshold || vmx.apic_write_pending || timer_expired(cpu) ||
         nmi_window_open(cpu) || interrupt_window_open(cpu) || nmi_exits(cpu) || interrupt_exits(cpu) ||
         virtual_interrupt_due(cpu);
}

} // namespace abyme::soft::vmx
