#pragma once
#include "soft/vmx/state.hpp"
#include <span>

// The checks of a VM entry (SDM 3C §27.2, §27.3): one function a rule, in the manual's order.
namespace abyme::soft::vmx {

// What the rules look at: the VMCS, the controls in force in it, and the processor that is about to enter.
struct EntryState {
  const Cpu &cpu;
  const Vmcs &vmcs;
  const Capabilities &capabilities;
  Controls controls;
  std::array<u64, 4> &pdpte; // filled by the rule on PDPTEs in memory, which VM entry then loads: they are read once

  [[nodiscard]] u64 operator[](Field f) const { return vmcs[f]; }
  [[nodiscard]] bool pin(u32 bits) const { return controls.pin & bits; }
  [[nodiscard]] bool primary(u32 bits) const { return controls.primary & bits; }
  [[nodiscard]] bool secondary(u32 bits) const { return controls.secondary & bits; }
  [[nodiscard]] bool exit(u32 bits) const { return controls.exit & bits; }
  [[nodiscard]] bool entry(u32 bits) const { return controls.entry & bits; }
  [[nodiscard]] bool ia32e() const { return entry(x86::entry_control::Ia32eModeGuest); }
  [[nodiscard]] bool unrestricted() const { return secondary(x86::secondary::UnrestrictedGuest); }
  [[nodiscard]] bool injects() const { return (*this)[Field::EntryInterruption] & x86::interruption::kValid; }
  [[nodiscard]] u32 injection() const { return vmcs.u32_at(Field::EntryInterruption); }

  [[nodiscard]] bool in_width(u64 physical) const { return physical < capabilities.physical_limit; }
  // Bits 11:0 zero and none beyond the physical-address width.
  [[nodiscard]] bool page_address(u64 physical) const { return !(physical & 0xFFF) && in_width(physical); }
  [[nodiscard]] bool page_address(Field f) const { return page_address((*this)[f]); }
  [[nodiscard]] bool canonical(u64 linear) const {
    const unsigned spare = cpu.profile->has(x86::Feature::la57) ? 7 : 16;
    return static_cast<u64>(static_cast<i64>(linear << spare) >> spare) == linear;
  }
  [[nodiscard]] bool canonical(Field f) const { return canonical((*this)[f]); }
};
[[nodiscard]] EntryState entry_state(Cpu &cpu);

struct Rule {
  std::string_view name; // of the function
  std::string_view section;
  bool (*holds)(const EntryState &);
  x86::EntryFailure failure = x86::EntryFailure::Default; // guest state: the exit qualification
};
#define ABYME_RULE(function, section, ...)                                                                             \
  { #function, section, function __VA_OPT__(, ) __VA_ARGS__ }

[[nodiscard]] std::span<const Rule> control_rules();
[[nodiscard]] std::span<const Rule> host_rules();
// In this order.
[[nodiscard]] std::span<const Rule> guest_register_rules();
[[nodiscard]] std::span<const Rule> guest_segment_rules();
[[nodiscard]] std::span<const Rule> guest_non_register_rules();

// The first rule of a group that does not hold, or nullptr.
[[nodiscard]] const Rule *control_violation(const EntryState &entry);
[[nodiscard]] const Rule *host_violation(const EntryState &entry);
[[nodiscard]] const Rule *guest_violation(const EntryState &entry);
[[nodiscard]] const Rule *guest_segment_violation(const EntryState &entry); // part of guest_violation()

// Unrolled over a table in the same file, so that the rules are inlined into one function: every VM entry runs all of
// them.
template <const auto &Table> [[nodiscard]] const Rule *first_violation(const EntryState &entry) {
  const Rule *found = nullptr;
  [&]<size_t... I>(std::index_sequence<I...>) { (void)((Table[I].holds(entry) || (found = &Table[I], false)) && ...); }
  (std::make_index_sequence<std::size(Table)>{});
  return found;
}

// Shared by the rules on host and guest state.
[[nodiscard]] bool valid_pat(u64 pat);
[[nodiscard]] bool valid_efer_bits(const EntryState &entry, u64 efer);
// An EPT pointer that VM entry, INVEPT and EPTP switching accept (SDM 3C §25.6.11).
[[nodiscard]] bool valid_ept_pointer(const Capabilities &capabilities, u64 eptp);

} // namespace abyme::soft::vmx
