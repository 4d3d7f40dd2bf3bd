// The contexts that TLB entries are tagged with, and what invalidates them (SDM 3A §4.10, 3C §29.4).
#include "soft/mmu/mmu.hpp"

namespace abyme::soft::mmu {
namespace {

using namespace x86;

constexpr u16 kSpaces = 1023; // the last number would make tags look invalid

SpaceKey current_key(const Cpu &cpu) {
  const u32 pcid = cpu.cr4 & cr4::PCIDE ? cpu.cr3 & 0xFFF : 0;
  const u64 rules = (cpu.cr0 & (cr0::PG | cr0::WP)) | (cpu.cr4 & (cr4::PAE | cr4::PSE | cr4::SMEP)) | (cpu.efer & (efer::NXE | efer::LMA));
  return {.eptp = cpu.ept_enabled ? cpu.eptp : 0, .vpid_pcid = static_cast<u32>(cpu.vpid) << 12 | pcid, .rules = static_cast<u32>(rules)};
}

void clear_entries(Mmu &m) {
  for (auto &e : m.tlb.entries) e = {Tlb::kInvalid, Tlb::kInvalid, 0, 0};
  m.fetch.fill({});
  m.large_regions.reset();
  m.huge_regions.reset();
}

u64 space_of(Mmu &m, const SpaceKey &key) {
  const auto found = m.spaces.find(key);
  if (found != m.spaces.end()) return found->second;
  if (m.next_space == kSpaces) { // out of numbers: start over
    clear_entries(m);
    m.spaces.clear();
    m.next_space = 0;
  }
  return m.spaces[key] = m.next_space++;
}

// Forgetting a space makes its entries unreachable: it gets a new number when next selected.
template <class Predicate> void forget(Cpu &cpu, Predicate matches) {
  cpu.mmu->selection_valid = false;
  std::erase_if(cpu.mmu->spaces, [&](const auto &s) { return matches(s.first); });
  select_context(cpu);
}

void drop_page(Cpu &cpu, u64 linear, u16 vpid) {
  Mmu &m = *cpu.mmu;
  const u64 page = linear & kPageMask;
  for (u64 privilege = 0; privilege < kPrivileges; privilege++) {
    TlbEntry &e = m.tlb.entries[Tlb::index(linear, salt_of(privilege, vpid))];
    if ((e.read & kPageMask) == page || (e.write & kPageMask) == page) e = {Tlb::kInvalid, Tlb::kInvalid, 0, 0};
  }
  FetchEntry &f = m.fetch[linear >> 12 & 0xFF];
  if ((f.tag & kPageMask) == page) f = {};
}

// A page of one VPID, with all pieces of the larger mapping that it may be part of.
void drop_mapping(Cpu &cpu, u64 linear, u16 vpid) {
  Mmu &m = *cpu.mmu;
  if (m.huge_regions[linear >> 30 & 1023]) {
    forget(cpu, [vpid](const SpaceKey &k) { return k.vpid_pcid >> 12 == vpid; });
    return;
  }
  // 4 MiB: the largest mapping that is not counted as huge. Each half of it may have been used alone.
  if (!m.large_regions[linear >> 21 & 4095] && !m.large_regions[(linear >> 21 ^ 1) & 4095]) return drop_page(cpu, linear, vpid);
  const u64 start = linear & ~0x3FFFFFull;
  for (u64 offset = 0; offset < 0x400000; offset += kPageSize) drop_page(cpu, start + offset, vpid);
}

} // namespace

void forget_page(Cpu &cpu, u64 linear) { drop_page(cpu, linear, cpu.vpid); }

u64 salt_of(u64 context, u16 vpid) { return (context & 3) * 0x0A55 ^ vpid * 0x1367; }

u64 context_of(const Cpu &cpu, As as) {
  u64 privilege = kUserPrivilege;
  if (as == As::Supervisor || cpu.cpl < 3) {
    const bool overridden = as == As::Cpl && (cpu.rflags_rest & rflags::AC);
    privilege = (cpu.cr4 & cr4::SMAP) && !overridden ? kSupervisorSmap : kSupervisor;
  }
  return cpu.mmu->space << 2 | privilege;
}

void select_context(Cpu &cpu) {
  Mmu &m = *cpu.mmu;
  const SpaceKey key = current_key(cpu);
  if (!m.selection_valid || !(m.selected == key)) {
    m.space = space_of(m, key);
    m.selected = key;
    m.selection_valid = true;
  }
  m.check_alignment = (cpu.cr0 & cr0::AM) && (cpu.rflags_rest & rflags::AC) && cpu.cpl == 3;
  if (breakpoints_enabled(cpu) || m.watch.enabled) [[unlikely]] update_watch(cpu);
  const u64 context = context_of(cpu, As::Cpl);
  // Every access is looked at while alignment is checked: no entry ever carries this number.
  cpu.tlb_context = m.check_alignment ? static_cast<u64>(kSpaces) << 2 : context;
  cpu.tlb_salt = salt_of(context, cpu.vpid);
}

void flush_all(Cpu &cpu) {
  clear_entries(*cpu.mmu);
  cpu.mmu->spaces.clear();
  cpu.mmu->next_space = 0;
  cpu.mmu->selection_valid = false;
  select_context(cpu);
}

void flush_context(Cpu &cpu, bool keep_global) {
  // Globals are tagged by PCID like any other entry, so the current PCID loses them too: allowed, only slower.
  if (keep_global) {
    const SpaceKey key = current_key(cpu);
    return forget(cpu, [&key](const SpaceKey &k) { return k.vpid_pcid == key.vpid_pcid; });
  }
  forget(cpu, [&cpu](const SpaceKey &k) { return k.vpid_pcid >> 12 == cpu.vpid; });
}

void flush_page(Cpu &cpu, u64 linear) { drop_mapping(cpu, linear, cpu.vpid); }

void invalidate_pcid(Cpu &cpu, InvpcidType type, u16 pcid, u64 linear) {
  switch (type) {
  case InvpcidType::Address: return drop_mapping(cpu, linear, cpu.vpid);
  case InvpcidType::Context:
    return forget(cpu, [&](const SpaceKey &k) { return k.vpid_pcid == (static_cast<u32>(cpu.vpid) << 12 | pcid); });
  case InvpcidType::AllWithGlobals:
  case InvpcidType::AllButGlobals: return flush_context(cpu, false);
  }
}

void invalidate_vpid(Cpu &cpu, InvvpidType type, u16 vpid, u64 linear) {
  switch (type) {
  case InvvpidType::Address: return drop_mapping(cpu, linear, vpid);
  case InvvpidType::Context:
  case InvvpidType::ContextButGlobals: return forget(cpu, [vpid](const SpaceKey &k) { return k.vpid_pcid >> 12 == vpid; });
  case InvvpidType::All: return forget(cpu, [](const SpaceKey &k) { return k.vpid_pcid >> 12 != 0; });
  }
}

void invalidate_ept(Cpu &cpu, bool all, u64 eptp) {
  // Translations are tagged by EPTP[51:12] alone: its other bits do not separate them.
  const u64 root = eptp & 0x000F'FFFF'FFFF'F000ull;
  forget(cpu, [&](const SpaceKey &k) { return k.eptp != 0 && (all || (k.eptp & 0x000F'FFFF'FFFF'F000ull) == root); });
}

} // namespace abyme::soft::mmu
