// Checks on host control registers, MSRs, segments and address-space size: SDM 3C §27.2.2 to §27.2.4.
#include "soft/vmx/entry_rules.hpp"

namespace abyme::soft::vmx {
namespace {

using namespace x86;

[[nodiscard]] bool wide_host(const EntryState &e) { return e.exit(exit_control::HostAddressSpaceSize); }

// --- §27.2.2 ---

bool host_cr0_allowed(const EntryState &e) {
  const u64 value = e[Field::HostCr0];
  return (value & kCr0Fixed0) == kCr0Fixed0 && !(value & ~kCr0Fixed1);
}

bool host_cr4_allowed(const EntryState &e) {
  const u64 value = e[Field::HostCr4];
  return (value & kCr4Fixed0) == kCr4Fixed0 && !(value & ~e.capabilities.cr4_fixed1);
}

bool host_cr3_in_width(const EntryState &e) { return e.in_width(e[Field::HostCr3]); }

bool host_sysenter_esp_canonical(const EntryState &e) { return e.canonical(Field::HostSysenterEsp); }

bool host_sysenter_eip_canonical(const EntryState &e) { return e.canonical(Field::HostSysenterEip); }

bool host_pat_valid(const EntryState &e) { return !e.exit(exit_control::LoadPat) || valid_pat(e[Field::HostPat]); }

bool host_efer_reserved_bits_clear(const EntryState &e) {
  return !e.exit(exit_control::LoadEfer) || valid_efer_bits(e, e[Field::HostEfer]);
}

bool host_efer_matches_address_space_size(const EntryState &e) {
  if (!e.exit(exit_control::LoadEfer)) return true;
  const u64 mode = e[Field::HostEfer] & (efer::LMA | efer::LME);
  return mode == (wide_host(e) ? efer::LMA | efer::LME : 0);
}

// --- §27.2.3 ---

bool host_selectors_without_rpl_and_ti(const EntryState &e) {
  u64 bits = 0;
  for (unsigned n = 0; n < 7; n++) bits |= e[nth(Field::HostEsSelector, n)];
  return !(bits & 7);
}

bool host_cs_not_null(const EntryState &e) { return e[Field::HostCsSelector] != 0; }

bool host_tr_not_null(const EntryState &e) { return e[Field::HostTrSelector] != 0; }

bool host_ss_not_null_in_32_bit_host(const EntryState &e) { return wide_host(e) || e[Field::HostSsSelector] != 0; }

bool host_bases_canonical(const EntryState &e) {
  for (const Field f :
       {Field::HostFsBase, Field::HostGsBase, Field::HostGdtrBase, Field::HostIdtrBase, Field::HostTrBase})
    if (!e.canonical(f)) return false;
  return true;
}

// --- §27.2.4 ---

bool outside_ia32e_mode_no_64_bit_guest_or_host(const EntryState &e) {
  return e.cpu.long_mode() || (!e.ia32e() && !wide_host(e));
}

bool in_ia32e_mode_64_bit_host(const EntryState &e) { return !e.cpu.long_mode() || wide_host(e); }

bool narrow_host_has_no_64_bit_guest(const EntryState &e) { return wide_host(e) || !e.ia32e(); }

bool narrow_host_without_pcide(const EntryState &e) { return wide_host(e) || !(e[Field::HostCr4] & cr4::PCIDE); }

bool narrow_host_rip_32_bit(const EntryState &e) { return wide_host(e) || !(e[Field::HostRip] >> 32); }

bool wide_host_with_pae(const EntryState &e) { return !wide_host(e) || (e[Field::HostCr4] & cr4::PAE); }

bool wide_host_rip_canonical(const EntryState &e) { return !wide_host(e) || e.canonical(Field::HostRip); }

constexpr Rule kRules[] = {
    ABYME_RULE(host_cr0_allowed, "27.2.2"),
    ABYME_RULE(host_cr4_allowed, "27.2.2"),
    ABYME_RULE(host_cr3_in_width, "27.2.2"),
    ABYME_RULE(host_sysenter_esp_canonical, "27.2.2"),
    ABYME_RULE(host_sysenter_eip_canonical, "27.2.2"),
    ABYME_RULE(host_pat_valid, "27.2.2"),
    ABYME_RULE(host_efer_reserved_bits_clear, "27.2.2"),
    ABYME_RULE(host_efer_matches_address_space_size, "27.2.2"),
    ABYME_RULE(host_selectors_without_rpl_and_ti, "27.2.3"),
    ABYME_RULE(host_cs_not_null, "27.2.3"),
    ABYME_RULE(host_tr_not_null, "27.2.3"),
    ABYME_RULE(host_ss_not_null_in_32_bit_host, "27.2.3"),
    ABYME_RULE(host_bases_canonical, "27.2.3"),
    ABYME_RULE(outside_ia32e_mode_no_64_bit_guest_or_host, "27.2.4"),
    ABYME_RULE(in_ia32e_mode_64_bit_host, "27.2.4"),
    ABYME_RULE(narrow_host_has_no_64_bit_guest, "27.2.4"),
    ABYME_RULE(narrow_host_without_pcide, "27.2.4"),
    ABYME_RULE(narrow_host_rip_32_bit, "27.2.4"),
    ABYME_RULE(wide_host_with_pae, "27.2.4"),
    ABYME_RULE(wide_host_rip_canonical, "27.2.4"),
};

} // namespace

std::span<const Rule> host_rules() { return kRules; }
const Rule *host_violation(const EntryState &entry) { return first_violation<kRules>(entry); }

bool valid_pat(u64 pat) {
  constexpr unsigned kTypes = 1 << 0 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7;
  for (unsigned n = 0; n < 8; n++, pat >>= 8)
    if ((pat & 0xFF) > 7 || !(kTypes >> (pat & 7) & 1)) return false;
  return true;
}

bool valid_efer_bits(const EntryState &entry, u64 value) {
  const u64 nx = entry.cpu.profile->has(Feature::nx) ? efer::NXE : 0;
  return !(value & ~(efer::SCE | efer::LME | efer::LMA | nx));
}

} // namespace abyme::soft::vmx
