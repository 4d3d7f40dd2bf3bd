#include "soft/vmx/test_guest.hpp"
#include <functional>
#include <set>

// Each rule of the VM-entry checks: once where it holds, once where just it is broken.
namespace abyme::soft::vmx {
namespace {

using Change = std::function<void(TestGuest &)>;
namespace pin = x86::pin;
namespace primary = x86::primary;
namespace secondary = x86::secondary;
namespace exit_control = x86::exit_control;
namespace entry_control = x86::entry_control;
namespace interruption = x86::interruption;

struct RuleCase {
  std::string_view rule;
  Change holds;  // the entry succeeds
  Change breaks; // the entry fails by this rule
};

constexpr u64 kBeyond = 1ull << 52, kNotCanonical = 1ull << 62;

Change nothing() {
  return [](TestGuest &) {};
}
Change set(Field f, u64 value) {
  return [=](TestGuest &g) { g.set(f, value); };
}
Change put(Field f, u64 bits) {
  return [=](TestGuest &g) { g.or_in(f, bits); };
}
Change drop(Field f, u64 bits) {
  return [=](TestGuest &g) { g.clear(f, bits); };
}
Change operator+(Change a, Change b) {
  return [a = std::move(a), b = std::move(b)](TestGuest &g) {
    a(g);
    b(g);
  };
}
Change pins(u32 bits) { return put(Field::PinControls, bits); }
Change primaries(u32 bits) { return put(Field::PrimaryControls, bits); }
Change secondaries(u32 bits) { return put(Field::SecondaryControls, bits); }
Change exits(u32 bits) { return put(Field::ExitControls, bits); }
Change inject(u32 information) { return set(Field::EntryInterruption, interruption::kValid | information); }
Change tpr_shadow() { return primaries(primary::UseTprShadow); }
Change virtual_interrupts() {
  return tpr_shadow() + pins(pin::ExternalInterruptExiting) + secondaries(secondary::VirtualInterruptDelivery);
}
Change posted_interrupts() {
  return virtual_interrupts() + exits(exit_control::AcknowledgeInterrupt) + pins(pin::PostedInterrupts);
}
Change virtual_nmis() { return pins(pin::NmiExiting | pin::VirtualNmis); }
Change without_ept() {
  return [](TestGuest &g) { g.shadow_paging_guest(); };
}
Change without_unrestricted() { return drop(Field::SecondaryControls, secondary::UnrestrictedGuest); }
Change protected_guest() {
  return [](TestGuest &g) { g.protected_guest(); };
}
Change real_guest() {
  return [](TestGuest &g) { g.real_guest(); };
}
Change v86_guest() {
  return [](TestGuest &g) { g.v86_guest(); };
}
Change pae_guest() {
  return [](TestGuest &g) { g.pae_guest(); };
}
Change rights(unsigned n, u32 value) { return set(nth(Field::GuestEsRights, n), value); }
Change selector(unsigned n, u64 value) { return set(nth(Field::GuestEsSelector, n), value); }
Change limit(unsigned n, u64 value) { return set(nth(Field::GuestEsLimit, n), value); }
Change base(unsigned n, u64 value) { return set(nth(Field::GuestEsBase, n), value); }
Change ldtr(u64 limit_value, u32 rights_value) { return limit(kLdtr, limit_value) + rights(kLdtr, rights_value); }
// A guest that is itself in an IDT handler needs one to be delivered to: injection into IDT vector 0x20.
Change handler(u8 vector) {
  return [=](TestGuest &g) {
    g.machine.set_gate64(vector, system::make_gate(system::TestMachine::kCode64, 0xB000, 14, 0));
  };
}
// The processor outside of IA-32e mode, with a host and a guest to match.
Change narrow() {
  return protected_guest() + [](TestGuest &g) {
    g.cpu.efer = 0;
    g.cpu.cr0 &= ~x86::cr0::PG;
    g.cpu.segments[x86::CS].rights = 0xC09B;
    mode_changed(g.cpu);
    g.clear(Field::ExitControls, exit_control::HostAddressSpaceSize);
    g.set(Field::HostEfer, 0);
    g.set(Field::HostCsSelector, system::TestMachine::kCode0);
  };
}
// In 32-bit mode VMWRITE sets no upper half: RIP is written first.
Change narrow_rip(u64 rip) { return set(Field::HostRip, rip) + narrow(); }

using enum x86::VmcsField;

const RuleCase kControlCases[] = {
    {"pin_based_controls_allowed", pins(pin::ExternalInterruptExiting), pins(1 << 8)},
    {"primary_controls_allowed", primaries(primary::HltExiting), drop(PrimaryControls, 1 << 1)},
    {"secondary_controls_allowed", secondaries(secondary::WbinvdExiting), secondaries(1u << 31)},
    {"cr3_target_count_supported", set(Cr3TargetCount, 4), set(Cr3TargetCount, 5)},
    {"io_bitmap_addresses_valid", primaries(primary::UseIoBitmaps),
     primaries(primary::UseIoBitmaps) + set(IoBitmapB, kBeyond)},
    {"msr_bitmap_address_valid", primaries(primary::UseMsrBitmaps),
     primaries(primary::UseMsrBitmaps) + set(MsrBitmap, 0x123)},
    {"virtual_apic_address_valid", tpr_shadow(), tpr_shadow() + set(VirtualApicAddress, 8)},
    {"tpr_threshold_reserved_bits_clear", tpr_shadow(), tpr_shadow() + set(TprThreshold, 16)},
    {"tpr_threshold_not_above_vtpr",
     tpr_shadow() + set(TprThreshold, 3) +
         [](TestGuest &g) { g.machine.store<u8>(TestGuest::kVirtualApic + 0x80, 0x30); },
     tpr_shadow() + set(TprThreshold, 1)},
    {"apic_virtualization_needs_tpr_shadow", tpr_shadow() + secondaries(secondary::ApicRegisterVirtualization),
     secondaries(secondary::ApicRegisterVirtualization)},
    {"virtual_nmis_need_nmi_exiting", virtual_nmis(), pins(pin::VirtualNmis)},
    {"nmi_window_needs_virtual_nmis", virtual_nmis() + primaries(primary::NmiWindow), primaries(primary::NmiWindow)},
    {"apic_access_address_valid", secondaries(secondary::VirtualizeApicAccesses),
     secondaries(secondary::VirtualizeApicAccesses) + set(ApicAccessAddress, 1)},
    {"x2apic_excludes_apic_accesses", tpr_shadow() + secondaries(secondary::VirtualizeX2apic),
     tpr_shadow() + secondaries(secondary::VirtualizeX2apic | secondary::VirtualizeApicAccesses)},
    {"virtual_interrupts_need_external_interrupt_exiting", virtual_interrupts(),
     tpr_shadow() + secondaries(secondary::VirtualInterruptDelivery)},
    {"posted_interrupts_need_virtual_interrupts", posted_interrupts(),
     exits(exit_control::AcknowledgeInterrupt) + pins(pin::PostedInterrupts)},
    {"posted_interrupts_need_acknowledge", posted_interrupts(), virtual_interrupts() + pins(pin::PostedInterrupts)},
    {"posted_interrupt_vector_valid", posted_interrupts() + set(PostedInterruptVector, 255),
     posted_interrupts() + set(PostedInterruptVector, 256)},
    {"posted_interrupt_descriptor_valid", posted_interrupts(),
     posted_interrupts() + set(PostedInterruptDescriptor, 32)},
    {"vpid_not_zero", set(Vpid, 0xFFFF), set(Vpid, 0)},
    {"ept_pointer_valid", put(EptPointer, 1 << 6), drop(EptPointer, 8)},
    {"pml_needs_ept", secondaries(secondary::EnablePml), without_ept() + secondaries(secondary::EnablePml)},
    {"pml_address_valid", secondaries(secondary::EnablePml), secondaries(secondary::EnablePml) + set(PmlAddress, 1)},
    {"unrestricted_guest_needs_ept", nothing(), drop(SecondaryControls, secondary::EnableEpt)},
    {"mode_based_execute_needs_ept", secondaries(secondary::ModeBasedExecute),
     without_ept() + secondaries(secondary::ModeBasedExecute)},
    {"vm_function_controls_allowed", secondaries(secondary::EnableVmfunc),
     secondaries(secondary::EnableVmfunc) + set(VmFunctionControls, 2)},
    {"eptp_switching_needs_ept_and_list", secondaries(secondary::EnableVmfunc) + set(VmFunctionControls, 1),
     secondaries(secondary::EnableVmfunc) + set(VmFunctionControls, 1) + set(EptpListAddress, 4)},
    {"vmcs_shadowing_bitmap_addresses_valid", secondaries(secondary::VmcsShadowing),
     secondaries(secondary::VmcsShadowing) + set(VmwriteBitmap, kBeyond)},
    {"virtualization_exception_address_valid", secondaries(secondary::EptViolationVe),
     secondaries(secondary::EptViolationVe) + set(VirtualizationExceptionAddress, 4)},
    {"tsc_multiplier_not_zero", secondaries(secondary::UseTscScaling),
     secondaries(secondary::UseTscScaling) + set(TscMultiplier, 0)},
    {"exit_controls_allowed", exits(exit_control::AcknowledgeInterrupt), exits(1u << 31)},
    {"saving_timer_needs_timer", pins(pin::PreemptionTimer) + exits(exit_control::SavePreemptionTimer),
     exits(exit_control::SavePreemptionTimer)},
    {"exit_msr_store_area_valid", set(ExitMsrStoreAddress, kBeyond),
     set(ExitMsrStoreCount, 1) + set(ExitMsrStoreAddress, 8)},
    {"exit_msr_load_area_valid", set(ExitMsrLoadAddress, 8),
     set(ExitMsrLoadCount, 1) + set(ExitMsrLoadAddress, kBeyond)},
    {"entry_controls_allowed", nothing(), put(EntryControls, entry_control::EntryToSmm)},
    {"injected_type_valid", inject(7 << 8), inject(1 << 8)},
    {"injected_vector_matches_type", handler(2) + inject(2 << 8 | 2), inject(2 << 8 | 3)},
    {"injected_error_code_where_due", handler(13) + inject(3 << 8 | interruption::kErrorValid | 13),
     inject(3 << 8 | 13)},
    {"injection_reserved_bits_clear", handler(2) + inject(2 << 8 | 2), inject(2 << 8 | 2 | 1 << 12)},
    {"injected_error_code_reserved_bits_clear",
     handler(13) + inject(3 << 8 | interruption::kErrorValid | 13) + set(EntryErrorCode, 0xFFF8),
     inject(3 << 8 | interruption::kErrorValid | 13) + set(EntryErrorCode, 0x10000)},
    {"injected_instruction_length_valid", handler(0x20) + inject(4 << 8 | 0x20) + set(EntryInstructionLength, 15),
     inject(4 << 8 | 0x20) + set(EntryInstructionLength, 16)},
    {"entry_msr_load_area_valid", set(EntryMsrLoadAddress, 8), set(EntryMsrLoadCount, 1) + set(EntryMsrLoadAddress, 8)},
};

const RuleCase kHostCases[] = {
    {"host_cr0_allowed", put(HostCr0, x86::cr0::WP), drop(HostCr0, x86::cr0::NE)},
    {"host_cr4_allowed", put(HostCr4, x86::cr4::PGE), drop(HostCr4, x86::cr4::VMXE)},
    {"host_cr3_in_width", nothing(), put(HostCr3, kBeyond)},
    {"host_sysenter_esp_canonical", set(HostSysenterEsp, ~0ull), set(HostSysenterEsp, kNotCanonical)},
    {"host_sysenter_eip_canonical", set(HostSysenterEip, ~0ull), set(HostSysenterEip, kNotCanonical)},
    {"host_pat_valid", set(HostPat, 0x0706050401000000), set(HostPat, 2)},
    {"host_efer_reserved_bits_clear", put(HostEfer, x86::efer::NXE), put(HostEfer, 2)},
    {"host_efer_matches_address_space_size", nothing(), drop(HostEfer, x86::efer::LME)},
    {"host_selectors_without_rpl_and_ti", set(HostFsSelector, 0x18), set(HostFsSelector, 0x1B)},
    {"host_cs_not_null", nothing(), set(HostCsSelector, 0)},
    {"host_tr_not_null", nothing(), set(HostTrSelector, 0)},
    {"host_ss_not_null_in_32_bit_host", set(HostSsSelector, 0), narrow() + set(HostSsSelector, 0)},
    {"host_bases_canonical", set(HostGsBase, ~0ull), set(HostGsBase, kNotCanonical)},
    {"outside_ia32e_mode_no_64_bit_guest_or_host", narrow(),
     narrow() + put(EntryControls, entry_control::Ia32eModeGuest)},
    {"in_ia32e_mode_64_bit_host", nothing(), drop(ExitControls, exit_control::HostAddressSpaceSize) + set(HostEfer, 0)},
    {"narrow_host_has_no_64_bit_guest", narrow(), narrow() + put(EntryControls, entry_control::Ia32eModeGuest)},
    {"narrow_host_without_pcide", narrow(), narrow() + put(HostCr4, x86::cr4::PCIDE)},
    {"narrow_host_rip_32_bit", narrow_rip(0xC100), narrow_rip(1ull << 32)},
    {"wide_host_with_pae", nothing(), drop(HostCr4, x86::cr4::PAE)},
    {"wide_host_rip_canonical", set(HostRip, ~0ull), set(HostRip, kNotCanonical)},
};

const RuleCase kRegisterCases[] = {
    {"guest_cr0_allowed", real_guest(), drop(GuestCr0, x86::cr0::NE)},
    {"guest_paging_needs_protection", nothing(), drop(GuestCr0, x86::cr0::PE)},
    {"guest_cr4_allowed", put(GuestCr4, x86::cr4::PGE), drop(GuestCr4, x86::cr4::VMXE)},
    {"guest_debugctl_reserved_bits_clear", set(GuestDebugctl, 1), set(GuestDebugctl, 4)},
    {"ia32e_guest_pages_with_pae", nothing(), drop(GuestCr4, x86::cr4::PAE)},
    {"legacy_guest_without_pcide", put(GuestCr4, x86::cr4::PCIDE), protected_guest() + put(GuestCr4, x86::cr4::PCIDE)},
    {"guest_cr3_in_width", nothing(), put(GuestCr3, kBeyond)},
    {"guest_dr7_32_bit", nothing(), put(GuestDr7, 1ull << 32)},
    {"guest_sysenter_esp_canonical", set(GuestSysenterEsp, ~0ull), set(GuestSysenterEsp, kNotCanonical)},
    {"guest_sysenter_eip_canonical", set(GuestSysenterEip, ~0ull), set(GuestSysenterEip, kNotCanonical)},
    {"guest_pat_valid", nothing(), set(GuestPat, 3ull << 56)},
    {"guest_efer_reserved_bits_clear", nothing(), put(GuestEfer, 2)},
    {"guest_efer_matches_ia32e_mode", nothing(), drop(GuestEfer, x86::efer::LMA)},
};

constexpr u32 kDataRights = 0xC093, kCodeRights = 0xA09B, kUnusable = x86::Segment::kUnusable;

const RuleCase kSegmentCases[] = {
    {"guest_tr_in_global_table", nothing(), selector(kTr, 0x3C)},
    {"guest_ldtr_in_global_table", selector(kLdtr, 4), ldtr(0xFF, 0x82) + selector(kLdtr, 4)},
    {"guest_ss_and_cs_rpl_equal", selector(x86::SS, 0x13), without_unrestricted() + selector(x86::SS, 0x13)},
    {"virtual_8086_bases_from_selectors", v86_guest(), v86_guest() + base(x86::GS, 0x1010)},
    {"guest_wide_bases_canonical", base(x86::FS, ~0ull), base(x86::FS, kNotCanonical)},
    {"guest_narrow_bases_32_bit", rights(x86::DS, kUnusable) + base(x86::DS, 1ull << 32), base(x86::DS, 1ull << 32)},
    {"virtual_8086_limits_64_kib", v86_guest(), v86_guest() + limit(x86::ES, 0xFFFE)},
    {"virtual_8086_rights_f3", v86_guest(), v86_guest() + rights(x86::DS, 0x93)},
    {"guest_cs_type_valid", rights(x86::CS, 0xA099), rights(x86::CS, 0xA09A)},
    {"guest_ss_type_valid", rights(x86::SS, 0xC097), rights(x86::SS, 0xC091)},
    {"guest_data_types_valid", rights(x86::DS, 0xC09B), rights(x86::DS, 0xC092)},
    {"guest_segments_not_system", nothing(), rights(x86::ES, 0xC083)},
    {"guest_cs_dpl_suits_type", rights(x86::CS, 0xA09F), rights(x86::CS, kCodeRights | 3 << 5)},
    {"guest_ss_dpl_is_rpl", without_unrestricted(),
     without_unrestricted() + selector(x86::SS, 0x11) + selector(x86::CS, 0x29)},
    {"guest_ss_dpl_0_in_real_mode", real_guest(), real_guest() + rights(x86::SS, 0xF3) + rights(x86::CS, 0xFB)},
    {"guest_data_dpl_not_below_rpl", selector(x86::DS, 0x13), without_unrestricted() + selector(x86::DS, 0x13)},
    {"guest_segments_present", rights(x86::FS, kUnusable), rights(x86::FS, kDataRights & ~0x80u)},
    {"guest_segment_reserved_bits_clear", nothing(), rights(x86::GS, kDataRights | 1 << 8)},
    {"guest_64_bit_cs_without_d", nothing(), rights(x86::CS, kCodeRights | 1 << 14)},
    {"guest_segment_granularity_valid", rights(x86::DS, 0x4093) + limit(x86::DS, 0xFFFFF),
     rights(x86::DS, 0x4093) + limit(x86::DS, 0x100000)},
    {"guest_tr_type_busy_tss", nothing(), rights(kTr, 0x89)},
    {"guest_tr_system_present_usable", nothing(), rights(kTr, 0x0B)},
    {"guest_tr_reserved_bits_clear", nothing(), rights(kTr, 0x8B | 1 << 11)},
    {"guest_tr_granularity_valid", nothing(), rights(kTr, 0x808B)},
    {"guest_ldtr_type_ldt", ldtr(0xFF, 0x82), ldtr(0xFF, 0x83)},
    {"guest_ldtr_system_present", ldtr(0xFF, 0x82), ldtr(0xFF, 0x02)},
    {"guest_ldtr_reserved_bits_clear", ldtr(0xFF, 0x82), ldtr(0xFF, 0x82 | 1 << 9)},
    {"guest_ldtr_granularity_valid", ldtr(0xFFF, 0x8082), ldtr(0xFF, 0x8082)},
};

const Change kIf = put(GuestRflags, x86::rflags::IF);
Change interruptibility(u32 bits) { return set(GuestInterruptibility, bits); }

const RuleCase kNonRegisterCases[] = {
    {"guest_table_bases_canonical", set(GuestGdtrBase, ~0xFFFFull), set(GuestGdtrBase, kNotCanonical)},
    {"guest_table_limits_16_bit", set(GuestGdtrLimit, 0xFFFF), set(GuestGdtrLimit, 0x10000)},
    {"guest_rip_valid", set(GuestRip, ~0ull), set(GuestRip, kNotCanonical)},
    {"guest_rflags_reserved_bits", nothing(), put(GuestRflags, 8)},
    {"guest_virtual_8086_only_in_protected_mode", v86_guest(), v86_guest() + drop(GuestCr0, x86::cr0::PE)},
    {"injected_interrupt_needs_if", handler(0x20) + kIf + inject(0x20), inject(0x20)},
    {"guest_activity_supported", set(GuestActivity, 3), set(GuestActivity, 4)},
    {"guest_halted_only_in_ring_0", set(GuestActivity, 1),
     set(GuestActivity, 1) + rights(x86::SS, 0xC0F3) + rights(x86::CS, 0xA0FB)},
    {"guest_active_while_blocking", kIf + interruptibility(1), kIf + interruptibility(1) + set(GuestActivity, 1)},
    {"injected_event_suits_activity", handler(2) + set(GuestActivity, 2) + inject(2 << 8 | 2),
     kIf + set(GuestActivity, 2) + inject(0x20)},
    {"interruptibility_reserved_bits_clear", interruptibility(8), interruptibility(16)},
    {"not_blocking_by_sti_and_mov_ss", kIf + interruptibility(2), kIf + interruptibility(3)},
    {"blocking_by_sti_needs_if", kIf + interruptibility(1), interruptibility(1)},
    {"injected_interrupt_not_blocked", handler(0x20) + kIf + inject(0x20), kIf + interruptibility(1) + inject(0x20)},
    {"injected_nmi_not_blocked_by_mov_ss", handler(2) + kIf + interruptibility(1) + inject(2 << 8 | 2),
     interruptibility(2) + inject(2 << 8 | 2)},
    {"not_blocking_by_smi", nothing(), interruptibility(4)},
    {"injected_virtual_nmi_not_blocked", handler(2) + virtual_nmis() + inject(2 << 8 | 2),
     virtual_nmis() + interruptibility(8) + inject(2 << 8 | 2)},
    {"pending_debug_reserved_bits_clear", set(GuestPendingDebug, 0x500F), set(GuestPendingDebug, 0x10)},
    {"pending_single_step_matches_tf",
     interruptibility(2) + put(GuestRflags, x86::rflags::TF) + set(GuestPendingDebug, 1 << 14),
     interruptibility(2) + put(GuestRflags, x86::rflags::TF)},
    {"link_pointer_address_valid", set(VmcsLinkPointer, TestGuest::kOtherVmcs), set(VmcsLinkPointer, 0x42001)},
    {"link_pointer_revision_matches",
     secondaries(secondary::VmcsShadowing) + set(VmcsLinkPointer, TestGuest::kShadowVmcs),
     set(VmcsLinkPointer, TestGuest::kShadowVmcs)},
    {"link_pointer_not_current", set(VmcsLinkPointer, TestGuest::kOtherVmcs), set(VmcsLinkPointer, TestGuest::kVmcs)},
    {"guest_pdptes_valid", pae_guest() + set(GuestPdpte0, 0x1001), pae_guest() + set(GuestPdpte0, 0x1003)},
};

const Rule *find_rule(std::string_view name) {
  for (const auto rules :
       {control_rules(), host_rules(), guest_register_rules(), guest_segment_rules(), guest_non_register_rules()})
    for (const Rule &rule : rules)
      if (rule.name == name) return &rule;
  return nullptr;
}

void expect_holds(const RuleCase &c, const Rule &rule) {
  TestGuest g;
  c.holds(g);
  EXPECT_TRUE(rule.holds(entry_state(g.cpu)));
  EXPECT_EQ(g.violated(), "");
  g.must_enter();
}

void expect_fails_with(const RuleCase &c, const Rule &rule, x86::VmxError error) {
  TestGuest g;
  c.breaks(g);
  EXPECT_FALSE(rule.holds(entry_state(g.cpu)));
  EXPECT_EQ(g.enter(), Outcome::Next);
  EXPECT_EQ(g.cpu.status, pack_status(x86::rflags::ZF));
  EXPECT_EQ(g.get(InstructionError), static_cast<u64>(error));
}

void expect_entry_failure(const RuleCase &c, const Rule &rule) {
  TestGuest g;
  c.breaks(g);
  EXPECT_EQ(g.violated(), c.rule);
  EXPECT_EQ(g.enter(), Outcome::Branch);
  EXPECT_EQ(g.get(ExitReason), 0x8000'0021u);
  EXPECT_EQ(g.get(ExitQualification), static_cast<u64>(rule.failure));
  EXPECT_EQ(g.cpu.rip, TestGuest::kHostRip);
  EXPECT_EQ(g.cpu.vmx_mode, VmxMode::Root);
}

template <class Breaks> void check(std::span<const RuleCase> cases, std::span<const Rule> rules, Breaks breaks) {
  std::set<std::string_view> tested;
  for (const RuleCase &c : cases) {
    SCOPED_TRACE(c.rule);
    const Rule *rule = find_rule(c.rule);
    ASSERT_NE(rule, nullptr);
    expect_holds(c, *rule);
    breaks(c, *rule);
    tested.insert(c.rule);
  }
  for (const Rule &rule : rules) EXPECT_TRUE(tested.contains(rule.name)) << rule.name << " has no test";
}

TEST(VmxEntryRules, Controls) {
  check(kControlCases, control_rules(),
        [](const RuleCase &c, const Rule &rule) { expect_fails_with(c, rule, x86::VmxError::EntryInvalidControls); });
}

TEST(VmxEntryRules, HostState) {
  check(kHostCases, host_rules(),
        [](const RuleCase &c, const Rule &rule) { expect_fails_with(c, rule, x86::VmxError::EntryInvalidHostState); });
}

TEST(VmxEntryRules, GuestRegisters) { check(kRegisterCases, guest_register_rules(), expect_entry_failure); }

TEST(VmxEntryRules, GuestSegments) { check(kSegmentCases, guest_segment_rules(), expect_entry_failure); }

TEST(VmxEntryRules, GuestNonRegisterState) {
  check(kNonRegisterCases, guest_non_register_rules(), expect_entry_failure);
}

} // namespace
} // namespace abyme::soft::vmx
