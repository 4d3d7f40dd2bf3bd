// Checks on VMX controls: SDM 3C §27.2.1.
#include "soft/vmx/entry_rules.hpp"

namespace abyme::soft::vmx {
namespace {

using namespace x86;

// --- §27.2.1.1 VM-execution control fields ---

bool pin_based_controls_allowed(const EntryState &e) {
  return e.capabilities[ControlWord::Pin].permits(e.controls.pin);
}

bool primary_controls_allowed(const EntryState &e) {
  return e.capabilities[ControlWord::Primary].permits(e.controls.primary);
}

bool secondary_controls_allowed(const EntryState &e) {
  return !e.primary(primary::ActivateSecondary) || e.capabilities[ControlWord::Secondary].permits(e.controls.secondary);
}

bool cr3_target_count_supported(const EntryState &e) { return e[Field::Cr3TargetCount] <= kCr3Targets; }

bool io_bitmap_addresses_valid(const EntryState &e) {
  return !e.primary(primary::UseIoBitmaps) || (e.page_address(Field::IoBitmapA) && e.page_address(Field::IoBitmapB));
}

bool msr_bitmap_address_valid(const EntryState &e) {
  return !e.primary(primary::UseMsrBitmaps) || e.page_address(Field::MsrBitmap);
}

bool virtual_apic_address_valid(const EntryState &e) {
  return !e.primary(primary::UseTprShadow) || e.page_address(Field::VirtualApicAddress);
}

bool tpr_threshold_reserved_bits_clear(const EntryState &e) {
  if (!e.primary(primary::UseTprShadow) || e.secondary(secondary::VirtualInterruptDelivery)) return true;
  return !(e[Field::TprThreshold] & ~u64{15});
}

bool tpr_threshold_not_above_vtpr(const EntryState &e) {
  constexpr u64 kVtpr = 0x80;
  const u32 exempt = secondary::VirtualizeApicAccesses | secondary::VirtualInterruptDelivery;
  if (!e.primary(primary::UseTprShadow) || e.secondary(exempt)) return true;
  const u8 vtpr = load_physical<u8>(e.cpu, e[Field::VirtualApicAddress] + kVtpr);
  return (e[Field::TprThreshold] & 15) <= vtpr >> 4;
}

bool apic_virtualization_needs_tpr_shadow(const EntryState &e) {
  const u32 dependent =
      secondary::VirtualizeX2apic | secondary::ApicRegisterVirtualization | secondary::VirtualInterruptDelivery;
  return e.primary(primary::UseTprShadow) || !e.secondary(dependent);
}

bool virtual_nmis_need_nmi_exiting(const EntryState &e) { return e.pin(pin::NmiExiting) || !e.pin(pin::VirtualNmis); }

bool nmi_window_needs_virtual_nmis(const EntryState &e) {
  return e.pin(pin::VirtualNmis) || !e.primary(primary::NmiWindow);
}

bool apic_access_address_valid(const EntryState &e) {
  return !e.secondary(secondary::VirtualizeApicAccesses) || e.page_address(Field::ApicAccessAddress);
}

bool x2apic_excludes_apic_accesses(const EntryState &e) {
  return !e.secondary(secondary::VirtualizeX2apic) || !e.secondary(secondary::VirtualizeApicAccesses);
}

bool virtual_interrupts_need_external_interrupt_exiting(const EntryState &e) {
  return !e.secondary(secondary::VirtualInterruptDelivery) || e.pin(pin::ExternalInterruptExiting);
}

bool posted_interrupts_need_virtual_interrupts(const EntryState &e) {
  return !e.pin(pin::PostedInterrupts) || e.secondary(secondary::VirtualInterruptDelivery);
}

bool posted_interrupts_need_acknowledge(const EntryState &e) {
  return !e.pin(pin::PostedInterrupts) || e.exit(exit_control::AcknowledgeInterrupt);
}

bool posted_interrupt_vector_valid(const EntryState &e) {
  return !e.pin(pin::PostedInterrupts) || e[Field::PostedInterruptVector] <= 255;
}

bool posted_interrupt_descriptor_valid(const EntryState &e) {
  const u64 address = e[Field::PostedInterruptDescriptor];
  return !e.pin(pin::PostedInterrupts) || (!(address & 63) && e.in_width(address));
}

bool vpid_not_zero(const EntryState &e) { return !e.secondary(secondary::EnableVpid) || e[Field::Vpid] != 0; }

bool ept_pointer_valid(const EntryState &e) {
  return !e.secondary(secondary::EnableEpt) || valid_ept_pointer(e.capabilities, e[Field::EptPointer]);
}

bool pml_needs_ept(const EntryState &e) {
  return !e.secondary(secondary::EnablePml) || e.secondary(secondary::EnableEpt);
}

bool pml_address_valid(const EntryState &e) {
  return !e.secondary(secondary::EnablePml) || e.page_address(Field::PmlAddress);
}

bool unrestricted_guest_needs_ept(const EntryState &e) {
  return !e.unrestricted() || e.secondary(secondary::EnableEpt);
}

bool mode_based_execute_needs_ept(const EntryState &e) {
  return !e.secondary(secondary::ModeBasedExecute) || e.secondary(secondary::EnableEpt);
}

bool vm_function_controls_allowed(const EntryState &e) {
  return !e.secondary(secondary::EnableVmfunc) || !(e[Field::VmFunctionControls] & ~e.capabilities.vmfunc);
}

bool eptp_switching_needs_ept_and_list(const EntryState &e) {
  if (!e.secondary(secondary::EnableVmfunc) || !(e[Field::VmFunctionControls] & 1)) return true;
  return e.secondary(secondary::EnableEpt) && e.page_address(Field::EptpListAddress);
}

bool vmcs_shadowing_bitmap_addresses_valid(const EntryState &e) {
  return !e.secondary(secondary::VmcsShadowing) ||
         (e.page_address(Field::VmreadBitmap) && e.page_address(Field::VmwriteBitmap));
}

bool virtualization_exception_address_valid(const EntryState &e) {
  return !e.secondary(secondary::EptViolationVe) || e.page_address(Field::VirtualizationExceptionAddress);
}

bool tsc_multiplier_not_zero(const EntryState &e) {
  return !e.secondary(secondary::UseTscScaling) || e[Field::TscMultiplier] != 0;
}

// --- §27.2.1.2 VM-exit control fields ---

bool exit_controls_allowed(const EntryState &e) { return e.capabilities[ControlWord::Exit].permits(e.controls.exit); }

bool saving_timer_needs_timer(const EntryState &e) {
  return e.pin(pin::PreemptionTimer) || !e.exit(exit_control::SavePreemptionTimer);
}

bool msr_area_valid(const EntryState &e, Field address, Field count) {
  const u64 at = e[address], entries = e[count];
  return !entries || (!(at & 15) && e.in_width(at) && e.in_width(at + entries * 16 - 1));
}

bool exit_msr_store_area_valid(const EntryState &e) {
  return msr_area_valid(e, Field::ExitMsrStoreAddress, Field::ExitMsrStoreCount);
}

bool exit_msr_load_area_valid(const EntryState &e) {
  return msr_area_valid(e, Field::ExitMsrLoadAddress, Field::ExitMsrLoadCount);
}

// --- §27.2.1.3 VM-entry control fields ---

bool entry_controls_allowed(const EntryState &e) {
  return e.capabilities[ControlWord::Entry].permits(e.controls.entry);
}

bool injected_type_valid(const EntryState &e) {
  using enum interruption::Type;
  if (!e.injects()) return true;
  const auto type = interruption::type(e.injection());
  if (type == Other) return e.cpu.profile->has(VmxFeature::monitor_trap);
  return type != Reserved;
}

bool injected_vector_matches_type(const EntryState &e) {
  if (!e.injects()) return true;
  const u8 vector = interruption::vector(e.injection());
  switch (interruption::type(e.injection())) {
    using enum interruption::Type;
  case Nmi: return vector == x86::NMI;
  case HardwareException: return vector <= 31;
  case Other: return vector == 0;
  default: return true;
  }
}

[[nodiscard]] bool pushes_error_code(u8 vector) {
  constexpr u32 kVectors = 1 << DF | 1 << TS | 1 << NP | 1 << SS_ | 1 << GP | 1 << PF | 1 << AC;
  return vector < 32 && (kVectors >> vector & 1);
}

// In real mode, which only an unrestricted guest can be in, no exception has an error code.
bool injected_error_code_where_due(const EntryState &e) {
  if (!e.injects()) return true;
  const bool exception = interruption::type(e.injection()) == interruption::Type::HardwareException;
  const bool real = e.unrestricted() && !(e[Field::GuestCr0] & cr0::PE);
  const bool due = exception && !real && pushes_error_code(interruption::vector(e.injection()));
  return due == ((e.injection() & interruption::kErrorValid) != 0);
}

bool injection_reserved_bits_clear(const EntryState &e) {
  return !e.injects() || !(e.injection() & interruption::kReserved);
}

bool injected_error_code_reserved_bits_clear(const EntryState &e) {
  const bool delivers = e.injects() && (e.injection() & interruption::kErrorValid);
  return !delivers || !(e[Field::EntryErrorCode] & 0xFFFF'0000);
}

bool injected_instruction_length_valid(const EntryState &e) {
  using enum interruption::Type;
  if (!e.injects()) return true;
  const auto type = interruption::type(e.injection());
  const bool software = type == SoftwareInterrupt || type == PrivilegedSoftwareException || type == SoftwareException;
  return !software || e[Field::EntryInstructionLength] <= 15;
}

bool entry_msr_load_area_valid(const EntryState &e) {
  return msr_area_valid(e, Field::EntryMsrLoadAddress, Field::EntryMsrLoadCount);
}

constexpr Rule kRules[] = {
    ABYME_RULE(pin_based_controls_allowed, "27.2.1.1"),
    ABYME_RULE(primary_controls_allowed, "27.2.1.1"),
    ABYME_RULE(secondary_controls_allowed, "27.2.1.1"),
    ABYME_RULE(cr3_target_count_supported, "27.2.1.1"),
    ABYME_RULE(io_bitmap_addresses_valid, "27.2.1.1"),
    ABYME_RULE(msr_bitmap_address_valid, "27.2.1.1"),
    ABYME_RULE(virtual_apic_address_valid, "27.2.1.1"),
    ABYME_RULE(tpr_threshold_reserved_bits_clear, "27.2.1.1"),
    ABYME_RULE(tpr_threshold_not_above_vtpr, "27.2.1.1"),
    ABYME_RULE(apic_virtualization_needs_tpr_shadow, "27.2.1.1"),
    ABYME_RULE(virtual_nmis_need_nmi_exiting, "27.2.1.1"),
    ABYME_RULE(nmi_window_needs_virtual_nmis, "27.2.1.1"),
    ABYME_RULE(apic_access_address_valid, "27.2.1.1"),
    ABYME_RULE(x2apic_excludes_apic_accesses, "27.2.1.1"),
    ABYME_RULE(virtual_interrupts_need_external_interrupt_exiting, "27.2.1.1"),
    ABYME_RULE(posted_interrupts_need_virtual_interrupts, "27.2.1.1"),
    ABYME_RULE(posted_interrupts_need_acknowledge, "27.2.1.1"),
    ABYME_RULE(posted_interrupt_vector_valid, "27.2.1.1"),
    ABYME_RULE(posted_interrupt_descriptor_valid, "27.2.1.1"),
    ABYME_RULE(vpid_not_zero, "27.2.1.1"),
    ABYME_RULE(ept_pointer_valid, "27.2.1.1"),
    ABYME_RULE(pml_needs_ept, "27.2.1.1"),
    ABYME_RULE(pml_address_valid, "27.2.1.1"),
    ABYME_RULE(unrestricted_guest_needs_ept, "27.2.1.1"),
    ABYME_RULE(mode_based_execute_needs_ept, "27.2.1.1"),
    ABYME_RULE(vm_function_controls_allowed, "27.2.1.1"),
    ABYME_RULE(eptp_switching_needs_ept_and_list, "27.2.1.1"),
    ABYME_RULE(vmcs_shadowing_bitmap_addresses_valid, "27.2.1.1"),
    ABYME_RULE(virtualization_exception_address_valid, "27.2.1.1"),
    ABYME_RULE(tsc_multiplier_not_zero, "27.2.1.1"),
    ABYME_RULE(exit_controls_allowed, "27.2.1.2"),
    ABYME_RULE(saving_timer_needs_timer, "27.2.1.2"),
    ABYME_RULE(exit_msr_store_area_valid, "27.2.1.2"),
    ABYME_RULE(exit_msr_load_area_valid, "27.2.1.2"),
    ABYME_RULE(entry_controls_allowed, "27.2.1.3"),
    ABYME_RULE(injected_type_valid, "27.2.1.3"),
    ABYME_RULE(injected_vector_matches_type, "27.2.1.3"),
    ABYME_RULE(injected_error_code_where_due, "27.2.1.3"),
    ABYME_RULE(injection_reserved_bits_clear, "27.2.1.3"),
    ABYME_RULE(injected_error_code_reserved_bits_clear, "27.2.1.3"),
    ABYME_RULE(injected_instruction_length_valid, "27.2.1.3"),
    ABYME_RULE(entry_msr_load_area_valid, "27.2.1.3"),
};

} // namespace

std::span<const Rule> control_rules() { return kRules; }
const Rule *control_violation(const EntryState &entry) { return first_violation<kRules>(entry); }

bool valid_ept_pointer(const Capabilities &capabilities, u64 eptp) {
  constexpr u64 kAccessedDirty = 1 << 6, kReserved = 0xF80;
  const u64 type = eptp & 7;
  if (type != 0 && type != 6) return false;
  if ((eptp >> 3 & 7) != 3) return false; // walk length 4
  if ((eptp & kAccessedDirty) && !(capabilities.ept_vpid & ept_capability::AccessedDirty)) return false;
  return !(eptp & kReserved) && eptp < capabilities.physical_limit;
}

} // namespace abyme::soft::vmx
