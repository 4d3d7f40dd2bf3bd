// Exceptions, triple faults and faults of guest-physical memory in non-root operation: SDM 3C §26.2, §28.2.
#include "soft/system/system.hpp"
#include "soft/vmx/exit.hpp"

namespace abyme::soft::vmx {
namespace {

using x86::ExitReason;
namespace interruption = x86::interruption;

// SDM 3C §26.2: for #PF the error code decides whether the bitmap's bit or its opposite counts.
[[nodiscard]] bool exception_exits(const Vmcs &vmcs, const Event &event) {
  const bool bit = vmcs[Field::ExceptionBitmap] >> event.vector & 1;
  if (event.vector != x86::PF) return bit;
  const bool matches = (event.error & vmcs[Field::PageFaultErrorMask]) == vmcs[Field::PageFaultErrorMatch];
  return matches == bit;
}

[[nodiscard]] bool is_fault(const Event &event) {
  constexpr u32 kTraps = 1 << x86::DB | 1 << x86::BP | 1 << x86::OF | 1 << x86::MC | 1 << x86::DF;
  return event.type == EventType::HardwareException && !(kTraps >> event.vector & 1);
}

// What the exit says of an exception (SDM 3C §28.2.1, table 28-2).
[[nodiscard]] u64 exception_qualification(const Event &event) {
  constexpr u64 kDebugBits = 15 | 1 << 13 | 1 << 14;
  if (event.type == EventType::HardwareException && event.vector == x86::PF) return event.address;
  if (event.type == EventType::HardwareException && event.vector == x86::DB) return event.address & kDebugBits;
  return 0;
}

// SDM 3C §28.2.3: the fault came from an IRET that had already removed blocking by NMI.
[[nodiscard]] bool unblocked_by_iret(const Cpu &cpu) { return !cpu.delivering && cpu.vmx->unblocking_iret == cpu.rip; }

void exception_exit(Cpu &cpu, const Event &event) {
  u32 information = event_information(event);
  const bool double_fault = event.vector == x86::DF && event.type == EventType::HardwareException;
  if (unblocked_by_iret(cpu) && !double_fault) information |= interruption::kNmiUnblocking;
  vm_exit(cpu, {.reason = ExitReason::ExceptionOrNmi,
                .qualification = exception_qualification(event),
                .length = event.length,
                .interruption = information,
                .error = event.error,
                .rf = is_fault(event) ? SavedRf::Set : SavedRf::Keep});
}

// --- EPT violations that become #VE (SDM 3C §26.5.7) ---

constexpr u64 kInUse = 4; // offset of the dword that must be 0

[[nodiscard]] bool converts_to_ve(const Cpu &cpu) {
  if (!secondary_on(cpu, x86::secondary::EptViolationVe) || cpu.delivering || !cpu.protected_mode()) return false;
  if (cpu.fault.kind != Fault::Kind::EptViolation || cpu.fault.suppress_ve) return false;
  return load_physical<u32>(cpu, cpu.vmx->vmcs[Field::VirtualizationExceptionAddress] + kInUse) == 0;
}

void deliver_ve(Cpu &cpu) {
  const Vmcs &vmcs = cpu.vmx->vmcs;
  struct Area {
    u32 reason, in_use;
    u64 qualification, linear, physical;
    u16 index;
  } __attribute__((packed));
  const Area area{.reason = static_cast<u32>(ExitReason::EptViolation),
                  .in_use = ~0u,
                  .qualification = cpu.fault.qualification,
                  .linear = cpu.fault.guest_linear,
                  .physical = cpu.fault.guest_physical,
                  .index = static_cast<u16>(vmcs[Field::EptpIndex])};
  store_physical(cpu, vmcs[Field::VirtualizationExceptionAddress], area);
  cpu.fault = {.kind = Fault::Kind::Exception, .event = {.type = EventType::HardwareException, .vector = x86::VE}};
  system::deliver_fault(cpu);
}

[[nodiscard]] ExitReason memory_exit_reason(const Fault &fault) {
  switch (fault.kind) {
  case Fault::Kind::EptViolation: return ExitReason::EptViolation;
  case Fault::Kind::EptMisconfig: return ExitReason::EptMisconfiguration;
  default: return static_cast<ExitReason>(fault.exit_reason);
  }
}

[[nodiscard]] bool reports_nmi_unblocking(const Cpu &cpu) {
  const bool has_bit =
      cpu.fault.kind == Fault::Kind::EptViolation || cpu.fault.exit_reason == static_cast<u16>(ExitReason::PmlFull);
  return has_bit && unblocked_by_iret(cpu);
}

} // namespace

bool intercepts_event(Cpu &cpu, const Event &event) {
  if (!non_root(cpu)) return false;
  switch (event.type) {
  case EventType::ExternalInterrupt:
  case EventType::SoftwareInterrupt: return false;
  case EventType::Nmi:
    if (!pin_on(cpu, x86::pin::NmiExiting)) return false;
    break;
  default:
    if (!exception_exits(cpu.vmx->vmcs, event)) return false;
  }
  exception_exit(cpu, event);
  return true;
}

bool intercepts_triple_fault(Cpu &cpu) {
  if (!non_root(cpu)) return false;
  vm_exit(cpu, {.reason = ExitReason::TripleFault});
  return true;
}

void ept_fault(Cpu &cpu) {
  if (converts_to_ve(cpu)) return deliver_ve(cpu);
  const Fault fault = cpu.fault;
  const u64 unblocking = reports_nmi_unblocking(cpu) ? u64{interruption::kNmiUnblocking} : 0;
  cpu.fault.kind = Fault::Kind::None;
  vm_exit(cpu, {.reason = memory_exit_reason(fault),
                .qualification = fault.qualification | unblocking,
                .linear = fault.guest_linear,
                .physical = fault.guest_physical,
                .rf = cpu.delivering ? SavedRf::Keep : SavedRf::Set});
}

// Page-modification logging: SDM 3C §29.3.6.
bool log_dirty(Cpu &cpu, u64 guest_physical) {
  if (!secondary_on(cpu, x86::secondary::EnablePml)) return true;
  constexpr u64 kEntries = 512;
  Vmcs &vmcs = cpu.vmx->vmcs;
  const u64 index = vmcs[Field::PmlIndex];
  if (index >= kEntries) {
    cpu.fault = {.kind = Fault::Kind::VmExit, .exit_reason = static_cast<u16>(ExitReason::PmlFull)};
    return false;
  }
  store_physical(cpu, vmcs[Field::PmlAddress] + index * 8, guest_physical & kPageMask);
  vmcs[Field::PmlIndex] = static_cast<u16>(index - 1);
  return true;
}

// SDM 3C §26.3, "IRET": with NMI exiting it leaves physical blocking alone and, with virtual NMIs, removes virtual
// blocking.
void on_iret(Cpu &cpu) {
  const bool affects = !pin_on(cpu, x86::pin::NmiExiting) || pin_on(cpu, x86::pin::VirtualNmis);
  cpu.vmx->unblocking_iret = kNever;
  if (!affects || !cpu.nmi_blocked) return;
  cpu.vmx->unblocking_iret = cpu.rip;
  cpu.nmi_blocked = false;
  cpu.need(kAttentionEvents | (cpu.nmi_pending ? u32{kAttentionNmi} : 0u));
}

} // namespace abyme::soft::vmx
