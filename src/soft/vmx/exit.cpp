// VM exits: SDM 3C chapter 28, in its order.
#include "soft/vmx/exit.hpp"
#include "soft/tracer.hpp"
#include "soft/vmx/guest_state.hpp"
#include "soft/vmx/host_state.hpp"

namespace abyme::soft::vmx {
namespace {

using x86::ExitReason;

// SDM 3C §28.2.4. What is under way is the delivery of an event, unless that event itself is what exits.
void record_vectoring(Cpu &cpu, Vmcs &vmcs) {
  vmcs[Field::IdtVectoring] = 0;
  if (!cpu.delivering) return;
  vmcs[Field::IdtVectoring] = event_information(cpu.vectoring);
  vmcs[Field::IdtVectoringErrorCode] = cpu.vectoring.error;
}

[[nodiscard]] bool is_software(const Event &event) {
  return event.type == EventType::SoftwareInterrupt || event.type == EventType::SoftwareException ||
         event.type == EventType::PrivilegedSoftwareException;
}

void record(Cpu &cpu, const Exit &exit) {
  Vmcs &vmcs = cpu.vmx->vmcs;
  vmcs[Field::ExitReason] = static_cast<u64>(exit.reason);
  vmcs[Field::ExitQualification] = exit.qualification;
  vmcs[Field::ExitInterruption] = exit.interruption;
  vmcs[Field::ExitErrorCode] = exit.error;
  vmcs[Field::ExitInstructionInformation] = exit.information;
  vmcs[Field::GuestLinearAddress] = exit.linear;
  vmcs[Field::GuestPhysicalAddress] = exit.physical;
  record_vectoring(cpu, vmcs);
  const bool software = cpu.delivering && is_software(cpu.vectoring);
  vmcs[Field::ExitInstructionLength] = software ? cpu.vectoring.length : exit.length;
  vmcs[Field::EntryInterruption] &= ~static_cast<u64>(x86::interruption::kValid);
}

// SDM 3C §28.4: false after a VMX abort.
[[nodiscard]] bool save_msrs(Cpu &cpu) {
  const Vmcs &vmcs = cpu.vmx->vmcs;
  const u32 count = vmcs.u32_at(Field::ExitMsrStoreCount);
  if (count == 0 || store_msr_area(cpu, vmcs[Field::ExitMsrStoreAddress], count) == 0) return true;
  abort(cpu, x86::VmxAbort::SavingGuestMsrs);
  return false;
}

// SDM 3C §28.5, §28.6.
void enter_host(Cpu &cpu) {
  Vmx &vmx = *cpu.vmx;
  if (!load_host_state(cpu)) return abort(cpu, x86::VmxAbort::HostPdptes);
  const u32 count = vmx.vmcs.u32_at(Field::ExitMsrLoadCount);
  if (count && load_msr_area(cpu, vmx.vmcs[Field::ExitMsrLoadAddress], count))
    return abort(cpu, x86::VmxAbort::LoadingHostMsrs);
  if (cpu.interrupt_waiting) cpu.need(kAttentionInterrupt);
}

} // namespace

u32 event_information(const Event &event) {
  return event.vector | static_cast<u32>(event.type) << 8 | (event.has_error ? x86::interruption::kErrorValid : 0) |
         x86::interruption::kValid;
}

void vm_exit(Cpu &cpu, const Exit &exit) {
  trace(cpu, kTraceExits, "VM exit: {}, qualification {:#x}, interruption {:#x}, guest-physical {:#x}",
        x86::name_of(exit.reason), exit.qualification, exit.interruption, exit.physical);
  record(cpu, exit);
  save_guest_state(cpu, exit.rf);
  if (save_msrs(cpu)) enter_host(cpu);
}

Outcome exit_for_instruction(Cpu &cpu, const Op &op, ExitReason reason, u64 qualification, u32 information) {
  vm_exit(cpu, {.reason = reason,
                .qualification = qualification,
                .length = op.length,
                .information = information,
                .rf = SavedRf::Clear});
  return Outcome::Branch;
}

void fail_entry(Cpu &cpu, ExitReason reason, u64 qualification) {
  trace(cpu, kTraceExits, "{}, qualification {:#x}", x86::name_of(reason), qualification);
  Vmcs &vmcs = cpu.vmx->vmcs;
  vmcs[Field::ExitReason] = static_cast<u32>(reason) | x86::kEntryFailureBit;
  vmcs[Field::ExitQualification] = qualification;
  enter_host(cpu);
}

void abort(Cpu &cpu, x86::VmxAbort why) {
  constexpr u64 kAbortOffset = 4;
  store_physical(cpu, cpu.vmx->vmcs.address + kAbortOffset, static_cast<u32>(why));
  cpu.delivering = false;
  cpu.activity = Activity::Shutdown;
  cpu.vmx_mode = VmxMode::Root;
  cpu.fault = {.kind = Fault::Kind::VmxAbort, .text = "VMX abort: the VMCS region holds the indicator"};
}

} // namespace abyme::soft::vmx
