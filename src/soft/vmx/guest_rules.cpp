// Checks on guest control registers, debug registers and MSRs, RIP, RFLAGS, non-register state and PDPTEs: SDM 3C
// §27.3.1.1 and §27.3.1.3 to §27.3.1.6. The segments are in guest_segment_rules.cpp.
#include "soft/vmx/entry_rules.hpp"

namespace abyme::soft::vmx {
namespace {

using namespace x86;

[[nodiscard]] bool flag(const EntryState &e, u64 bits) { return e[Field::GuestRflags] & bits; }
[[nodiscard]] bool loads_debug_controls(const EntryState &e) { return e.entry(entry_control::LoadDebugControls); }

// --- §27.3.1.1 ---

bool guest_cr0_allowed(const EntryState &e) {
  const u64 value = e[Field::GuestCr0];
  const u64 fixed = e.unrestricted() ? kCr0Fixed0 & ~(cr0::PE | cr0::PG) : kCr0Fixed0;
  return (value & fixed) == fixed && !(value & ~kCr0Fixed1);
}

bool guest_paging_needs_protection(const EntryState &e) {
  const u64 value = e[Field::GuestCr0];
  return !(value & cr0::PG) || (value & cr0::PE);
}

bool guest_cr4_allowed(const EntryState &e) {
  const u64 value = e[Field::GuestCr4];
  return (value & kCr4Fixed0) == kCr4Fixed0 && !(value & ~e.capabilities.cr4_fixed1);
}

bool guest_debugctl_reserved_bits_clear(const EntryState &e) {
  constexpr u64 kDefined = 0xFFC3; // LBR, BTF, TR to FREEZE_WHILE_SMM, RTM (SDM 3B §18.4.1)
  return !loads_debug_controls(e) || !(e[Field::GuestDebugctl] & ~kDefined);
}

bool ia32e_guest_pages_with_pae(const EntryState &e) {
  return !e.ia32e() || ((e[Field::GuestCr0] & cr0::PG) && (e[Field::GuestCr4] & cr4::PAE));
}

bool legacy_guest_without_pcide(const EntryState &e) { return e.ia32e() || !(e[Field::GuestCr4] & cr4::PCIDE); }

bool guest_cr3_in_width(const EntryState &e) { return e.in_width(e[Field::GuestCr3]); }

bool guest_dr7_32_bit(const EntryState &e) { return !loads_debug_controls(e) || !(e[Field::GuestDr7] >> 32); }

bool guest_sysenter_esp_canonical(const EntryState &e) { return e.canonical(Field::GuestSysenterEsp); }

bool guest_sysenter_eip_canonical(const EntryState &e) { return e.canonical(Field::GuestSysenterEip); }

bool guest_pat_valid(const EntryState &e) { return !e.entry(entry_control::LoadPat) || valid_pat(e[Field::GuestPat]); }

bool guest_efer_reserved_bits_clear(const EntryState &e) {
  return !e.entry(entry_control::LoadEfer) || valid_efer_bits(e, e[Field::GuestEfer]);
}

bool guest_efer_matches_ia32e_mode(const EntryState &e) {
  if (!e.entry(entry_control::LoadEfer)) return true;
  const bool lma = e[Field::GuestEfer] & efer::LMA, lme = e[Field::GuestEfer] & efer::LME;
  return lma == e.ia32e() && (!(e[Field::GuestCr0] & cr0::PG) || lma == lme);
}

constexpr Rule kRegisterRules[] = {
    ABYME_RULE(guest_cr0_allowed, "27.3.1.1"),
    ABYME_RULE(guest_paging_needs_protection, "27.3.1.1"),
    ABYME_RULE(guest_cr4_allowed, "27.3.1.1"),
    ABYME_RULE(guest_debugctl_reserved_bits_clear, "27.3.1.1"),
    ABYME_RULE(ia32e_guest_pages_with_pae, "27.3.1.1"),
    ABYME_RULE(legacy_guest_without_pcide, "27.3.1.1"),
    ABYME_RULE(guest_cr3_in_width, "27.3.1.1"),
    ABYME_RULE(guest_dr7_32_bit, "27.3.1.1"),
    ABYME_RULE(guest_sysenter_esp_canonical, "27.3.1.1"),
    ABYME_RULE(guest_sysenter_eip_canonical, "27.3.1.1"),
    ABYME_RULE(guest_pat_valid, "27.3.1.1"),
    ABYME_RULE(guest_efer_reserved_bits_clear, "27.3.1.1"),
    ABYME_RULE(guest_efer_matches_ia32e_mode, "27.3.1.1"),
};

// --- §27.3.1.3 ---

bool guest_table_bases_canonical(const EntryState &e) {
  return e.canonical(Field::GuestGdtrBase) && e.canonical(Field::GuestIdtrBase);
}

bool guest_table_limits_16_bit(const EntryState &e) {
  return !(e[Field::GuestGdtrLimit] >> 16) && !(e[Field::GuestIdtrLimit] >> 16);
}

// --- §27.3.1.4 ---

bool guest_rip_valid(const EntryState &e) {
  const bool wide = e.ia32e() && (e[Field::GuestCsRights] & Segment::kLong);
  return wide ? e.canonical(Field::GuestRip) : !(e[Field::GuestRip] >> 32);
}

bool guest_rflags_reserved_bits(const EntryState &e) {
  constexpr u64 kReserved = ~0x3F'FFFFull | 1 << 15 | 1 << 5 | 1 << 3;
  return !(e[Field::GuestRflags] & kReserved) && flag(e, rflags::kFixed);
}

bool guest_virtual_8086_only_in_protected_mode(const EntryState &e) {
  return !flag(e, rflags::VM) || (!e.ia32e() && (e[Field::GuestCr0] & cr0::PE));
}

[[nodiscard]] bool injects_type(const EntryState &e, interruption::Type type) {
  return e.injects() && interruption::type(e.injection()) == type;
}

bool injected_interrupt_needs_if(const EntryState &e) {
  return !injects_type(e, interruption::Type::ExternalInterrupt) || flag(e, rflags::IF);
}

// --- §27.3.1.5 ---

[[nodiscard]] Activity activity(const EntryState &e) { return static_cast<Activity>(e[Field::GuestActivity]); }
[[nodiscard]] bool blocked(const EntryState &e, u32 bits) { return e[Field::GuestInterruptibility] & bits; }

bool guest_activity_supported(const EntryState &e) { return e[Field::GuestActivity] <= 3; }

bool guest_halted_only_in_ring_0(const EntryState &e) {
  return activity(e) != Activity::Halted || (e[Field::GuestSsRights] >> 5 & 3) == 0;
}

bool guest_active_while_blocking(const EntryState &e) {
  return activity(e) == Activity::Active || !blocked(e, interruptibility::kSti | interruptibility::kMovSs);
}

bool injected_event_suits_activity(const EntryState &e) {
  using enum interruption::Type;
  if (!e.injects()) return true;
  const auto type = interruption::type(e.injection());
  const u8 vector = interruption::vector(e.injection());
  const bool machine_check = type == HardwareException && vector == x86::MC;
  const bool debug = type == HardwareException && vector == x86::DB;
  switch (activity(e)) {
  case Activity::Active: return true;
  case Activity::Halted: return type == ExternalInterrupt || type == Nmi || debug || machine_check || type == Other;
  case Activity::Shutdown: return type == Nmi || machine_check;
  case Activity::WaitForSipi: return false;
  }
  return false;
}

bool interruptibility_reserved_bits_clear(const EntryState &e) { return !(e[Field::GuestInterruptibility] & ~u64{15}); }

bool not_blocking_by_sti_and_mov_ss(const EntryState &e) {
  return !(blocked(e, interruptibility::kSti) && blocked(e, interruptibility::kMovSs));
}

bool blocking_by_sti_needs_if(const EntryState &e) {
  return !blocked(e, interruptibility::kSti) || flag(e, rflags::IF);
}

bool injected_interrupt_not_blocked(const EntryState &e) {
  return !injects_type(e, interruption::Type::ExternalInterrupt) ||
         !blocked(e, interruptibility::kSti | interruptibility::kMovSs);
}

bool injected_nmi_not_blocked_by_mov_ss(const EntryState &e) {
  return !injects_type(e, interruption::Type::Nmi) || !blocked(e, interruptibility::kMovSs);
}

bool not_blocking_by_smi(const EntryState &e) { return !blocked(e, interruptibility::kSmi); }

bool injected_virtual_nmi_not_blocked(const EntryState &e) {
  return !e.pin(pin::VirtualNmis) || !injects_type(e, interruption::Type::Nmi) || !blocked(e, interruptibility::kNmi);
}

bool pending_debug_reserved_bits_clear(const EntryState &e) {
  using namespace pending_debug;
  return !(e[Field::GuestPendingDebug] & ~(kBreakpoints | kEnabled | kSingleStep));
}

// A single step that a shadow or HLT holds back is pending exactly when RFLAGS.TF makes one and BTF does not suppress
// it.
bool pending_single_step_matches_tf(const EntryState &e) {
  constexpr u64 kBtf = 2;
  const bool held = blocked(e, interruptibility::kSti | interruptibility::kMovSs) || activity(e) == Activity::Halted;
  if (!held) return true;
  const bool due = flag(e, rflags::TF) && !(e[Field::GuestDebugctl] & kBtf);
  return due == ((e[Field::GuestPendingDebug] & pending_debug::kSingleStep) != 0);
}

[[nodiscard]] bool has_link(const EntryState &e) { return e[Field::VmcsLinkPointer] != kNoVmcs; }

bool link_pointer_address_valid(const EntryState &e) { return !has_link(e) || e.page_address(Field::VmcsLinkPointer); }

bool link_pointer_revision_matches(const EntryState &e) {
  if (!has_link(e)) return true;
  const u32 expected = kRevision | (e.secondary(secondary::VmcsShadowing) ? kShadowVmcs : 0);
  return load_physical<u32>(e.cpu, e[Field::VmcsLinkPointer]) == expected;
}

bool link_pointer_not_current(const EntryState &e) { return e[Field::VmcsLinkPointer] != e.vmcs.address; }

// --- §27.3.1.6 ---

[[nodiscard]] bool uses_pae(const EntryState &e) {
  return (e[Field::GuestCr0] & cr0::PG) && (e[Field::GuestCr4] & cr4::PAE) && !e.ia32e();
}

bool guest_pdptes_valid(const EntryState &e) {
  if (!uses_pae(e)) return true;
  constexpr u64 kPresent = 1, kReserved = 0x1E6;
  const u64 table = e[Field::GuestCr3] & 0xFFFF'FFE0;
  for (unsigned n = 0; n < 4; n++) {
    const u64 entry =
        e.secondary(secondary::EnableEpt) ? e[nth(Field::GuestPdpte0, n)] : load_physical<u64>(e.cpu, table + 8 * n);
    if ((entry & kPresent) && ((entry & kReserved) || !e.in_width(entry))) return false;
    e.pdpte[n] = entry;
  }
  return true;
}

constexpr Rule kNonRegisterRules[] = {
    ABYME_RULE(guest_table_bases_canonical, "27.3.1.3"),
    ABYME_RULE(guest_table_limits_16_bit, "27.3.1.3"),
    ABYME_RULE(guest_rip_valid, "27.3.1.4"),
    ABYME_RULE(guest_rflags_reserved_bits, "27.3.1.4"),
    ABYME_RULE(guest_virtual_8086_only_in_protected_mode, "27.3.1.4"),
    ABYME_RULE(injected_interrupt_needs_if, "27.3.1.4"),
    ABYME_RULE(guest_activity_supported, "27.3.1.5"),
    ABYME_RULE(guest_halted_only_in_ring_0, "27.3.1.5"),
    ABYME_RULE(guest_active_while_blocking, "27.3.1.5"),
    ABYME_RULE(injected_event_suits_activity, "27.3.1.5"),
    ABYME_RULE(interruptibility_reserved_bits_clear, "27.3.1.5"),
    ABYME_RULE(not_blocking_by_sti_and_mov_ss, "27.3.1.5"),
    ABYME_RULE(blocking_by_sti_needs_if, "27.3.1.5"),
    ABYME_RULE(injected_interrupt_not_blocked, "27.3.1.5"),
    ABYME_RULE(injected_nmi_not_blocked_by_mov_ss, "27.3.1.5"),
    ABYME_RULE(not_blocking_by_smi, "27.3.1.5"),
    ABYME_RULE(injected_virtual_nmi_not_blocked, "27.3.1.5"),
    ABYME_RULE(pending_debug_reserved_bits_clear, "27.3.1.5"),
    ABYME_RULE(pending_single_step_matches_tf, "27.3.1.5"),
    ABYME_RULE(link_pointer_address_valid, "27.3.1.5", EntryFailure::LinkPointer),
    ABYME_RULE(link_pointer_revision_matches, "27.3.1.5", EntryFailure::LinkPointer),
    ABYME_RULE(link_pointer_not_current, "27.3.1.5", EntryFailure::LinkPointer),
    ABYME_RULE(guest_pdptes_valid, "27.3.1.6", EntryFailure::Pdptes),
};

} // namespace

std::span<const Rule> guest_register_rules() { return kRegisterRules; }
std::span<const Rule> guest_non_register_rules() { return kNonRegisterRules; }

EntryState entry_state(Cpu &cpu) {
  Vmx &vmx = *cpu.vmx;
  return {cpu, vmx.vmcs, vmx.capabilities, controls_of(vmx.vmcs), vmx.checked_pdpte};
}

const Rule *guest_violation(const EntryState &entry) {
  if (const Rule *rule = first_violation<kRegisterRules>(entry)) return rule;
  if (const Rule *rule = guest_segment_violation(entry)) return rule;
  return first_violation<kNonRegisterRules>(entry);
}

} // namespace abyme::soft::vmx
