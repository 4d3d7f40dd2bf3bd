// The first dimension of paging: linear to physical (or, under EPT, L2-physical) addresses (SDM 3A ch. 4).
#include "soft/mmu/mmu.hpp"
#include "soft/mmu/table_entry.hpp"

namespace abyme::soft::mmu {
namespace {

using namespace x86;

constexpr u64 kPresent = 1, kWrite = 2, kUser = 4, kAccessed = 1 << 5, kDirty = 1 << 6, kLarge = 1 << 7;
constexpr u64 kNoExecute = 1ull << 63;
constexpr u64 kAddress = 0x000F'FFFF'FFFF'F000ull;
constexpr unsigned kMaxDepth = 4;
constexpr unsigned kMaxRetries = 64;

namespace error {
constexpr u32 kPresent = 1, kWrite = 2, kUser = 4, kReserved = 8, kFetch = 16;
}

struct Step {
  void *slot;
  u64 guest_physical; // of the entry
  u64 seen;
  bool narrow;        // a 4-byte entry
};

// One walk under way.
struct Walker {
  Cpu &cpu;
  u64 linear;
  Access access;
  u64 rights = kWrite | kUser; // the AND of the entries' R/W and U/S
  bool no_execute = false;
  Step steps[kMaxDepth];
  unsigned depth = 0;

  [[nodiscard]] bool page_fault(u32 code) {
    if (access.write) code |= error::kWrite;
    if (access.user) code |= error::kUser;
    const bool fetch_reported = (cpu.cr4 & cr4::SMEP) || ((cpu.cr4 & cr4::PAE) && (cpu.efer & efer::NXE));
    if (access.fetch && fetch_reported) code |= error::kFetch;
    cpu.fault = {.kind = Fault::Kind::Exception,
                 .event = {.vector = PF, .has_error = true, .error = code, .address = linear}};
    return false;
  }

  // Reads the entry at a physical (under EPT: L2-physical) address.
  [[nodiscard]] bool fetch_entry(u64 at, bool narrow, u64 &entry) {
    u64 physical = at;
    if (cpu.ept_enabled) {
      EptPage page;
      if (!ept_walk(cpu, at, {}, EptUse::PagingStructure, linear, page)) return false;
      physical = page.physical;
    }
    Step &step = steps[depth++];
    step = {.slot = cpu.memory->host(Gpa(physical), narrow ? 4 : 8), .guest_physical = at, .seen = 0, .narrow = narrow};
    if (step.slot) step.seen = narrow ? load_entry(static_cast<u32 *>(step.slot)) : load_entry(static_cast<u64 *>(step.slot));
    entry = step.seen;
    return true;
  }

  // A present entry's part in the rights; a reserved bit is a fault.
  [[nodiscard]] bool take(u64 entry, u64 reserved) {
    if (!(entry & kPresent)) return page_fault(0);
    if (entry & reserved) return page_fault(error::kPresent | error::kReserved);
    rights &= entry;
    no_execute |= (entry & kNoExecute) != 0;
    return true;
  }

  [[nodiscard]] bool permitted() {
    const bool user_page = rights & kUser;
    bool ok = true;
    if (access.user) {
      ok = user_page && (!access.write || (rights & kWrite)) && !(access.fetch && no_execute);
    } else {
      if (access.write && !(rights & kWrite) && (cpu.cr0 & cr0::WP)) ok = false;
      if (access.fetch && (no_execute || (user_page && (cpu.cr4 & cr4::SMEP)))) ok = false;
      if (!access.fetch && user_page && access.smap) ok = false;
    }
    return ok || page_fault(error::kPresent);
  }

  // Accessed bits on the way, dirty at the end. False with fault None: an entry changed under way, start again.
  [[nodiscard]] bool mark() {
    for (unsigned i = 0; i < depth; i++) {
      Step &step = steps[i];
      const u64 wanted = kAccessed | (i + 1 == depth && access.write ? kDirty : 0);
      if ((step.seen & wanted) == wanted) continue;
      if (cpu.ept_enabled) { // the update is a write of its own
        EptPage page;
        if (!ept_walk(cpu, step.guest_physical, {.write = true}, EptUse::PagingStructure, linear, page)) return false;
      }
      const bool done = step.narrow ? update_entry(cpu, static_cast<u32 *>(step.slot), static_cast<u32>(step.seen), static_cast<u32>(wanted))
                                    : update_entry(cpu, static_cast<u64 *>(step.slot), step.seen, wanted);
      if (!done) return false;
      step.seen |= wanted;
    }
    return true;
  }

  [[nodiscard]] bool later_writes_allowed() const {
    if (depth == 0) return true;
    const bool permission = (rights & kWrite) || (!access.user && !(cpu.cr0 & cr0::WP));
    return permission && (steps[depth - 1].seen & kDirty);
  }
};

u64 beyond_physical(const Cpu &cpu) { return kAddress & ~((1ull << cpu.profile->physical_bits) - 1); }

u64 reserved_wide(const Cpu &cpu) { return beyond_physical(cpu) | (cpu.efer & efer::NXE ? 0 : kNoExecute); }

struct Leaf {
  u64 physical = 0;
  unsigned shift = 12;
};

bool finish_wide(Walker &w, u64 entry, unsigned level, Leaf &leaf) {
  leaf.shift = 12 + 9 * (level - 1);
  leaf.physical = (entry & kAddress & ~((1ull << leaf.shift) - 1)) | (w.linear & ((1ull << leaf.shift) - 1));
  return true;
}

// From a table of 512 eight-byte entries at `level` downwards: 4-level paging from 4, PAE from 2.
bool descend_wide(Walker &w, u64 table, unsigned level, Leaf &leaf) {
  const u64 reserved = reserved_wide(w.cpu);
  for (;; level--) {
    const unsigned shift = 12 + 9 * (level - 1);
    u64 entry;
    if (!w.fetch_entry(table + (w.linear >> shift & 0x1FF) * 8, false, entry)) return false;
    u64 forbidden = reserved;
    const bool large = level > 1 && (entry & kLarge);
    const bool may_be_large = level == 2 || (level == 3 && w.cpu.profile->has(Feature::pdpe1gb));
    if (large) forbidden |= may_be_large ? ((1ull << shift) - 1) & ~0x1FFFull : kLarge;
    if (!w.cpu.long_mode()) forbidden |= 0x7FF0'0000'0000'0000ull; // PAE: bits 62:52
    if (!w.take(entry, forbidden)) return false;
    if (level == 1 || large) return finish_wide(w, entry, level, leaf);
    table = entry & kAddress;
  }
}

bool descend_pae(Walker &w, Leaf &leaf) {
  const u64 entry = w.cpu.pdpte[w.linear >> 30 & 3];
  if (!(entry & kPresent)) return w.page_fault(0);
  return descend_wide(w, entry & kAddress, 2, leaf);
}

bool descend_narrow(Walker &w, Leaf &leaf) {
  u64 entry;
  if (!w.fetch_entry((w.cpu.cr3 & 0xFFFFF000) + (w.linear >> 22 & 0x3FF) * 4, true, entry)) return false;
  if ((entry & kLarge) && (w.cpu.cr4 & cr4::PSE)) {
    // PSE-36: bits 20:13 are physical address bits 39:32, bit 21 is reserved.
    const u64 high = (entry >> 13 & 0xFF) << 32;
    const u64 beyond = (high & beyond_physical(w.cpu)) ? 0x1FE000 : 0;
    if (!w.take(entry, (1 << 21) | beyond)) return false;
    leaf = {.physical = high | (entry & 0xFFC00000) | (w.linear & 0x3FFFFF), .shift = 22};
    return true;
  }
  if (!w.take(entry, 0)) return false;
  if (!w.fetch_entry((entry & 0xFFFFF000) + (w.linear >> 12 & 0x3FF) * 4, true, entry) || !w.take(entry, 0)) return false;
  leaf = {.physical = (entry & 0xFFFFF000) | (w.linear & 0xFFF), .shift = 12};
  return true;
}

bool descend(Walker &w, Leaf &leaf) {
  Cpu &cpu = w.cpu;
  if (!(cpu.cr0 & cr0::PG)) {
    leaf = {.physical = w.linear & 0xFFFFFFFF, .shift = 30};
    return true;
  }
  if (cpu.long_mode()) return descend_wide(w, cpu.cr3 & kAddress, 4, leaf);
  return cpu.cr4 & cr4::PAE ? descend_pae(w, leaf) : descend_narrow(w, leaf);
}

} // namespace

bool walk(Cpu &cpu, u64 linear, Access access, Page &page) {
  for (unsigned tries = 0; tries < kMaxRetries; tries++) {
    cpu.fault.kind = Fault::Kind::None;
    Walker w{.cpu = cpu, .linear = linear, .access = access, .steps = {}};
    Leaf leaf;
    if (!descend(w, leaf)) {
      if (cpu.fault.kind == Fault::Kind::Retry) continue;
      return false;
    }
    if ((cpu.cr0 & cr0::PG) && !w.permitted()) return false;
    if (!w.mark()) {
      if (cpu.fault.kind == Fault::Kind::None || cpu.fault.kind == Fault::Kind::Retry) continue;
      return false;
    }
    page = {.physical = leaf.physical, .writable = w.later_writes_allowed(), .large = leaf.shift > 12, .huge = leaf.shift >= 30};
    if (!cpu.ept_enabled) return true;
    EptPage second;
    const bool user_page = !(cpu.cr0 & cr0::PG) || (w.rights & kUser);
    if (!ept_walk(cpu, leaf.physical, {.write = access.write, .fetch = access.fetch, .user = user_page}, EptUse::Data, linear, second)) {
      if (cpu.fault.kind == Fault::Kind::Retry) continue;
      return false;
    }
    page.physical = second.physical;
    page.writable = page.writable && second.writable;
    return true;
  }
  // Another vCPU rewrites the entries faster than this one can read them: let it, and come back after looking at events.
  cpu.fault = {.kind = Fault::Kind::Retry};
  return false;
}

bool load_pdptes(Cpu &cpu, u64 cr3, u64 (&pdpte)[4]) {
  u64 loaded[4] = {};
  for (unsigned i = 0; i < 4; i++) {
    u64 at = (cr3 & 0xFFFFFFE0) + i * 8;
    if (cpu.ept_enabled) {
      EptPage page;
      if (!ept_walk(cpu, at, {}, EptUse::Pdpte, 0, page)) return false;
      at = page.physical;
    }
    if (!cpu.memory->load(Gpa(at), loaded[i])) loaded[i] = 0;
    const u64 reserved = 0x1E6 | ~(kAddress | 0xFFF) | beyond_physical(cpu);
    if ((loaded[i] & kPresent) && (loaded[i] & reserved)) return false;
  }
  for (unsigned i = 0; i < 4; i++) pdpte[i] = loaded[i];
  return true;
}

} // namespace abyme::soft::mmu
