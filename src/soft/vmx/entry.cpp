// VM entries: SDM 3C chapter 27, in its order.
#include "soft/system/system.hpp"
#include "soft/tracer.hpp"
#include "soft/vmx/entry_rules.hpp"
#include "soft/vmx/guest_state.hpp"
#include "soft/vmx/status.hpp"
#include "soft/vmx/virtual_apic.hpp"

namespace abyme::soft::vmx {
namespace {

using x86::ExitReason;
using x86::VmxError;
namespace interruption = x86::interruption;

const Rule *report(const Cpu &cpu, const Rule *violated) {
  if (violated)
    trace(cpu, kTraceEntries, "VM entry fails: rule {} of SDM 3C §{} does not hold", violated->name, violated->section);
  return violated;
}

// SDM 3C §27.1
[[nodiscard]] std::optional<Outcome> basic_checks(Cpu &cpu, bool launch) {
  const Vmcs &vmcs = cpu.vmx->vmcs;
  if (!vmcs.valid() || vmcs.shadow) return fail_invalid(cpu);
  if (cpu.shadow & kShadowMovSs) return fail(cpu, VmxError::EntryBlockedByMovSs);
  if (launch && vmcs.launched) return fail(cpu, VmxError::VmlaunchNonClear);
  if (!launch && !vmcs.launched) return fail(cpu, VmxError::VmresumeNonLaunched);
  return std::nullopt;
}

// SDM 3C §27.7.4, §27.7.5: what may be due before the guest's first instruction.
void arm_events(Cpu &cpu) {
  const Vmx &vmx = *cpu.vmx;
  start_preemption_timer(cpu);
  const u32 windows = x86::primary::InterruptWindow | x86::primary::NmiWindow | x86::primary::MonitorTrapFlag;
  const bool steps = cpu.shadow || cpu.pending_debug || (cpu.rflags_rest & x86::rflags::TF);
  if ((vmx.controls.primary & windows) || steps || vmx.preemption_deadline != kNever) cpu.need(kAttentionEvents);
  if (cpu.interrupt_waiting) cpu.need(kAttentionInterrupt);
  if (cpu.nmi_pending) cpu.need(kAttentionNmi);
  evaluate_virtual_apic(cpu);
}

[[nodiscard]] Event injected_event(const Cpu &cpu, u32 information) {
  const Vmcs &vmcs = cpu.vmx->vmcs;
  return {.type = static_cast<EventType>(interruption::type(information)),
          .vector = interruption::vector(information),
          .has_error = (information & interruption::kErrorValid) != 0,
          .error = vmcs.u32_at(Field::EntryErrorCode),
          .length = static_cast<u8>(vmcs[Field::EntryInstructionLength]),
          .address = 0};
}

// SDM 3C §27.7.3: when the VMCS's pending debug exceptions do not survive VM entry.
void drop_pending_debug(Cpu &cpu, u32 information) {
  using enum interruption::Type;
  const auto type = interruption::type(information);
  bool drops = cpu.activity == Activity::Shutdown || cpu.activity == Activity::WaitForSipi;
  if (information & interruption::kValid) {
    const bool software = type == SoftwareInterrupt || type == PrivilegedSoftwareException;
    drops = type != Other && (!software || !(cpu.shadow & kShadowMovSs));
  }
  if (drops) cpu.pending_debug = 0;
}

// SDM 3C §27.6. An injected event wakes the guest and ends its blocking by STI and MOV SS.
void inject(Cpu &cpu, u32 information) {
  if (interruption::type(information) == interruption::Type::Other) {
    cpu.vmx->monitor_trap = true;
    return;
  }
  cpu.activity = Activity::Active;
  cpu.shadow = 0;
  if (interruption::type(information) == interruption::Type::Nmi) cpu.nmi_blocked = true;
  if (cpu.vmx->controls.primary & x86::primary::MonitorTrapFlag) cpu.vmx->monitor_trap = true;
  system::deliver_event(cpu, injected_event(cpu, information));
}

// SDM 3C §27.4: false after a failed entry.
[[nodiscard]] bool load_msrs(Cpu &cpu) {
  const Vmcs &vmcs = cpu.vmx->vmcs;
  const u32 count = vmcs.u32_at(Field::EntryMsrLoadCount);
  const u32 failed = count ? load_msr_area(cpu, vmcs[Field::EntryMsrLoadAddress], count) : 0;
  if (failed) fail_entry(cpu, ExitReason::EntryFailureMsrLoading, failed);
  return failed == 0;
}

void enter_guest(Cpu &cpu, const Controls &controls) {
  Vmx &vmx = *cpu.vmx;
  vmx.controls = controls;
  vmx.monitor_trap = vmx.apic_write_pending = false;
  vmx.pause_first = vmx.pause_last = 0;
  vmx.unblocking_iret = kNever;
  load_guest_state(cpu);
  if (!load_msrs(cpu)) return;
  vmx.vmcs.launched = true;
  const u32 information = vmx.vmcs.u32_at(Field::EntryInterruption);
  trace(cpu, kTraceEntries, "VM entry: injects {:#x}", information);
  drop_pending_debug(cpu, information);
  arm_events(cpu);
  if (!(information & interruption::kValid)) return;
  inject(cpu, information);
  if (cpu.vmx->monitor_trap) cpu.need(kAttentionEvents);
}

Outcome enter(Cpu &cpu, const Op &op, bool launch) {
  if (const auto outcome = preamble(cpu, op, launch ? ExitReason::Vmlaunch : ExitReason::Vmresume)) return *outcome;
  if (const auto outcome = basic_checks(cpu, launch)) return *outcome;
  const EntryState state = entry_state(cpu);
  if (report(cpu, control_violation(state))) return fail(cpu, VmxError::EntryInvalidControls);
  if (report(cpu, host_violation(state))) return fail(cpu, VmxError::EntryInvalidHostState);
  if (const Rule *violated = report(cpu, guest_violation(state)))
    fail_entry(cpu, ExitReason::EntryFailureGuestState, static_cast<u64>(violated->failure));
  else
    enter_guest(cpu, state.controls);
  return Outcome::Branch;
}

} // namespace

Outcome vmlaunch(Cpu &cpu, const Op &op) { return enter(cpu, op, true); }

Outcome vmresume(Cpu &cpu, const Op &op) { return enter(cpu, op, false); }

} // namespace abyme::soft::vmx
