// Checks on guest segment registers: SDM 3C §27.3.1.2.
#include "soft/vmx/entry_rules.hpp"

namespace abyme::soft::vmx {
namespace {

using namespace x86;

// One segment register's fields, read from the VMCS.
struct View {
  const EntryState &e;
  unsigned n;

  [[nodiscard]] u64 selector() const { return e[nth(Field::GuestEsSelector, n)]; }
  [[nodiscard]] u64 base() const { return e[nth(Field::GuestEsBase, n)]; }
  [[nodiscard]] u32 limit() const { return e.vmcs.u32_at(nth(Field::GuestEsLimit, n)); }
  [[nodiscard]] u32 rights() const { return e.vmcs.u32_at(nth(Field::GuestEsRights, n)); }
  [[nodiscard]] bool usable() const { return !(rights() & Segment::kUnusable); }
  [[nodiscard]] u32 type() const { return rights() & 15; }
  [[nodiscard]] u32 dpl() const { return rights() >> 5 & 3; }
  [[nodiscard]] u32 rpl() const { return selector() & 3; }
  [[nodiscard]] bool local_table() const { return selector() & 4; }
  [[nodiscard]] bool reserved_clear() const { return !(rights() & 0xFFFE'0F00); }
  // SDM: "if any bit in the limit field in the range 11:0 is 0, G must be 0; in 31:20 is 1, G must be 1".
  [[nodiscard]] bool granularity_valid() const {
    const bool scaled = rights() & Segment::kGranularity;
    return scaled ? (limit() & 0xFFF) == 0xFFF : !(limit() >> 20);
  }
};

[[nodiscard]] bool virtual_8086(const EntryState &e) { return e[Field::GuestRflags] & rflags::VM; }

// Whether `holds` is true of CS and of each usable one among SS, DS, ES, FS, GS.
template <class Predicate> [[nodiscard]] bool all_usable(const EntryState &e, Predicate holds) {
  for (unsigned n = 0; n < kSegments; n++) {
    const View s{e, n};
    if ((n == CS || s.usable()) && !holds(s)) return false;
  }
  return true;
}
template <class Predicate> [[nodiscard]] bool all_six(const EntryState &e, Predicate holds) {
  for (unsigned n = 0; n < kSegments; n++)
    if (!holds(View{e, n})) return false;
  return true;
}

// --- selectors ---

bool guest_tr_in_global_table(const EntryState &e) { return !View{e, kTr}.local_table(); }

bool guest_ldtr_in_global_table(const EntryState &e) {
  const View ldtr{e, kLdtr};
  return !ldtr.usable() || !ldtr.local_table();
}

bool guest_ss_and_cs_rpl_equal(const EntryState &e) {
  return virtual_8086(e) || e.unrestricted() || View{e, SS}.rpl() == View{e, CS}.rpl();
}

// --- bases and limits ---

bool virtual_8086_bases_from_selectors(const EntryState &e) {
  return !virtual_8086(e) || all_six(e, [](View s) { return s.base() == s.selector() << 4; });
}

bool guest_wide_bases_canonical(const EntryState &e) {
  const bool ldtr = !View{e, kLdtr}.usable() || e.canonical(Field::GuestLdtrBase);
  return ldtr && e.canonical(Field::GuestTrBase) && e.canonical(Field::GuestFsBase) && e.canonical(Field::GuestGsBase);
}

bool guest_narrow_bases_32_bit(const EntryState &e) {
  for (const unsigned n : {CS, SS, DS, ES}) {
    const View s{e, n};
    if ((n == CS || s.usable()) && s.base() >> 32) return false;
  }
  return true;
}

bool virtual_8086_limits_64_kib(const EntryState &e) {
  return !virtual_8086(e) || all_six(e, [](View s) { return s.limit() == 0xFFFF; });
}

// --- access rights ---

bool virtual_8086_rights_f3(const EntryState &e) {
  return !virtual_8086(e) || all_six(e, [](View s) { return s.rights() == 0xF3; });
}

bool guest_cs_type_valid(const EntryState &e) {
  const u32 type = View{e, CS}.type();
  return virtual_8086(e) || (type & 9) == 9 || (type == 3 && e.unrestricted());
}

bool guest_ss_type_valid(const EntryState &e) {
  const View ss{e, SS};
  return virtual_8086(e) || !ss.usable() || ss.type() == 3 || ss.type() == 7;
}

bool guest_data_types_valid(const EntryState &e) {
  if (virtual_8086(e)) return true;
  for (const unsigned n : {DS, ES, FS, GS}) {
    const View s{e, n};
    const bool accessed = s.type() & 1, code = s.type() & 8, readable = s.type() & 2;
    if (s.usable() && (!accessed || (code && !readable))) return false;
  }
  return true;
}

bool guest_segments_not_system(const EntryState &e) {
  return virtual_8086(e) || all_usable(e, [](View s) { return s.rights() & Segment::kSystemBit; });
}

bool guest_cs_dpl_suits_type(const EntryState &e) {
  if (virtual_8086(e)) return true;
  const View cs{e, CS}, ss{e, SS};
  switch (cs.type()) {
  case 3: return cs.dpl() == 0;
  case 9:
  case 11: return cs.dpl() == ss.dpl();
  default: return cs.dpl() <= ss.dpl();
  }
}

bool guest_ss_dpl_is_rpl(const EntryState &e) {
  const View ss{e, SS};
  return virtual_8086(e) || e.unrestricted() || ss.dpl() == ss.rpl();
}

bool guest_ss_dpl_0_in_real_mode(const EntryState &e) {
  if (virtual_8086(e)) return true;
  const bool real = View{e, CS}.type() == 3 || !(e[Field::GuestCr0] & cr0::PE);
  return !real || View{e, SS}.dpl() == 0;
}

bool guest_data_dpl_not_below_rpl(const EntryState &e) {
  if (virtual_8086(e) || e.unrestricted()) return true;
  for (const unsigned n : {DS, ES, FS, GS}) {
    const View s{e, n};
    if (s.usable() && s.type() <= 11 && s.dpl() < s.rpl()) return false;
  }
  return true;
}

bool guest_segments_present(const EntryState &e) {
  return virtual_8086(e) || all_usable(e, [](View s) { return s.rights() & Segment::kPresent; });
}

bool guest_segment_reserved_bits_clear(const EntryState &e) {
  return virtual_8086(e) || all_usable(e, [](View s) { return s.reserved_clear(); });
}

bool guest_64_bit_cs_without_d(const EntryState &e) {
  const View cs{e, CS};
  return virtual_8086(e) || !e.ia32e() || !(cs.rights() & Segment::kLong) || !(cs.rights() & Segment::kBig);
}

bool guest_segment_granularity_valid(const EntryState &e) {
  return virtual_8086(e) || all_usable(e, [](View s) { return s.granularity_valid(); });
}

// --- TR and LDTR ---

bool guest_tr_type_busy_tss(const EntryState &e) {
  const u32 type = View{e, kTr}.type();
  return type == 11 || (type == 3 && !e.ia32e());
}

bool guest_tr_system_present_usable(const EntryState &e) {
  constexpr u32 kBits = Segment::kSystemBit | Segment::kPresent | Segment::kUnusable;
  return (View{e, kTr}.rights() & kBits) == Segment::kPresent;
}

bool guest_tr_reserved_bits_clear(const EntryState &e) { return View{e, kTr}.reserved_clear(); }

bool guest_tr_granularity_valid(const EntryState &e) { return View{e, kTr}.granularity_valid(); }

bool guest_ldtr_type_ldt(const EntryState &e) {
  const View ldtr{e, kLdtr};
  return !ldtr.usable() || ldtr.type() == 2;
}

bool guest_ldtr_system_present(const EntryState &e) {
  const View ldtr{e, kLdtr};
  return !ldtr.usable() || (ldtr.rights() & (Segment::kSystemBit | Segment::kPresent)) == Segment::kPresent;
}

bool guest_ldtr_reserved_bits_clear(const EntryState &e) {
  const View ldtr{e, kLdtr};
  return !ldtr.usable() || ldtr.reserved_clear();
}

bool guest_ldtr_granularity_valid(const EntryState &e) {
  const View ldtr{e, kLdtr};
  return !ldtr.usable() || ldtr.granularity_valid();
}

constexpr Rule kRules[] = {
    ABYME_RULE(guest_tr_in_global_table, "27.3.1.2"),
    ABYME_RULE(guest_ldtr_in_global_table, "27.3.1.2"),
    ABYME_RULE(guest_ss_and_cs_rpl_equal, "27.3.1.2"),
    ABYME_RULE(virtual_8086_bases_from_selectors, "27.3.1.2"),
    ABYME_RULE(guest_wide_bases_canonical, "27.3.1.2"),
    ABYME_RULE(guest_narrow_bases_32_bit, "27.3.1.2"),
    ABYME_RULE(virtual_8086_limits_64_kib, "27.3.1.2"),
    ABYME_RULE(virtual_8086_rights_f3, "27.3.1.2"),
    ABYME_RULE(guest_cs_type_valid, "27.3.1.2"),
    ABYME_RULE(guest_ss_type_valid, "27.3.1.2"),
    ABYME_RULE(guest_data_types_valid, "27.3.1.2"),
    ABYME_RULE(guest_segments_not_system, "27.3.1.2"),
    ABYME_RULE(guest_cs_dpl_suits_type, "27.3.1.2"),
    ABYME_RULE(guest_ss_dpl_is_rpl, "27.3.1.2"),
    ABYME_RULE(guest_ss_dpl_0_in_real_mode, "27.3.1.2"),
    ABYME_RULE(guest_data_dpl_not_below_rpl, "27.3.1.2"),
    ABYME_RULE(guest_segments_present, "27.3.1.2"),
    ABYME_RULE(guest_segment_reserved_bits_clear, "27.3.1.2"),
    ABYME_RULE(guest_64_bit_cs_without_d, "27.3.1.2"),
    ABYME_RULE(guest_segment_granularity_valid, "27.3.1.2"),
    ABYME_RULE(guest_tr_type_busy_tss, "27.3.1.2"),
    ABYME_RULE(guest_tr_system_present_usable, "27.3.1.2"),
    ABYME_RULE(guest_tr_reserved_bits_clear, "27.3.1.2"),
    ABYME_RULE(guest_tr_granularity_valid, "27.3.1.2"),
    ABYME_RULE(guest_ldtr_type_ldt, "27.3.1.2"),
    ABYME_RULE(guest_ldtr_system_present, "27.3.1.2"),
    ABYME_RULE(guest_ldtr_reserved_bits_clear, "27.3.1.2"),
    ABYME_RULE(guest_ldtr_granularity_valid, "27.3.1.2"),
};

} // namespace

std::span<const Rule> guest_segment_rules() { return kRules; }
const Rule *guest_segment_violation(const EntryState &entry) { return first_violation<kRules>(entry); }

} // namespace abyme::soft::vmx
