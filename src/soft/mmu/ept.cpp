// The second dimension of paging: L2-physical to this VM's physical addresses (SDM 3C §29.3).
#include "memory/guest_memory.hpp"
#include "soft/mmu/mmu.hpp"
#include "soft/mmu/table_entry.hpp"
#include "soft/vmx/vmx.hpp"

namespace abyme::soft::mmu {
namespace {

constexpr u64 kRead = 1, kWrite = 2, kExecute = 4, kLarge = 1 << 7, kAccessed = 1 << 8, kDirty = 1 << 9, kExecuteUser = 1 << 10;
constexpr u64 kEptpAccessedDirty = 1 << 6;

// Bits of the exit qualification of an EPT violation (SDM 3C table 28-7).
namespace qualification {
constexpr u64 kDataRead = 1, kDataWrite = 2, kFetch = 4, kLinearValid = 1 << 7, kTranslation = 1 << 8;
}

struct Walk {
  Cpu &cpu;
  u64 guest_physical;
  u64 linear;
  u64 access_bits; // of the qualification
  EptUse use;
};

[[nodiscard]] u64 present_bits(const Cpu &cpu) { return kRead | kWrite | kExecute | (cpu.ept_mode_based ? kExecuteUser : 0); }

// `entry` is the one at which the walk ended: its bit 63 suppresses #VE (SDM 3C §26.5.7.1).
bool violation(Walk &w, u64 permissions, u64 entry) {
  using namespace qualification;
  w.cpu.fault = {.kind = Fault::Kind::EptViolation,
                 .qualification = w.access_bits | (permissions & 7) << 3 | (permissions & kExecuteUser ? 1 << 6 : 0) |
                                  (w.use == EptUse::Pdpte ? 0 : kLinearValid) |
                                  (w.use == EptUse::Data ? kTranslation : 0),
                 .guest_physical = w.guest_physical,
                 .guest_linear = w.linear,
                 .suppress_ve = (entry >> 63) != 0};
  return false;
}

bool misconfiguration(Walk &w) {
  w.cpu.fault = {.kind = Fault::Kind::EptMisconfig, .guest_physical = w.guest_physical, .guest_linear = w.linear};
  return false;
}

// SDM 3C §29.3.3.1. `level` 1 is the page table.
bool misconfigured(const Cpu &cpu, u64 entry, unsigned level) {
  const bool readable = entry & kRead;
  if ((entry & kWrite) && !readable) return true;
  if (!readable && (entry & (kExecute | (cpu.ept_mode_based ? kExecuteUser : 0))) &&
      !cpu.profile->has(x86::VmxFeature::ept_execute_only))
    return true;
  const u64 beyond = ((1ull << 52) - 1) & ~((1ull << cpu.profile->physical_bits) - 1);
  if (entry & beyond) return true;
  const bool leaf = level == 1 || (entry & kLarge);
  if (level == 4 && (entry & 0xF8)) return true;
  if (level == 3 && leaf && !cpu.profile->has(x86::VmxFeature::ept_1gb)) return true;
  if (!leaf) return level != 4 && (entry & 0x78);
  if (level > 1 && (entry & ((1ull << (12 + 9 * (level - 1))) - 1) & ~0xFFFull)) return true;
  const unsigned type = entry >> 3 & 7;
  return type == 2 || type == 3 || type == 7;
}

} // namespace

bool ept_walk(Cpu &cpu, u64 guest_physical, Access access, EptUse use, u64 linear, EptPage &page) {
  const bool accessed_dirty = cpu.eptp & kEptpAccessedDirty;
  // With accessed and dirty flags, reads of guest paging structures count as writes (SDM 3C §29.3.5).
  const bool as_write = access.write || (use != EptUse::Data && accessed_dirty);
  using namespace qualification;
  Walk w{cpu, guest_physical, linear, access.fetch ? kFetch : access.write ? kDataWrite : kDataRead, use};
  if (use != EptUse::Data && accessed_dirty) w.access_bits = kDataRead | kDataWrite;
  if (guest_physical >> 48) return violation(w, 0, 0);

  u64 table = cpu.eptp & 0x000F'FFFF'FFFF'F000ull;
  u64 permissions = present_bits(cpu);
  u64 *slots[4];
  u64 seen[4];
  unsigned depth = 0;
  for (unsigned level = 4;; level--) {
    const unsigned shift = 12 + 9 * (level - 1);
    u64 *slot = table_slot(cpu, table + (guest_physical >> shift & 0x1FF) * 8);
    const u64 entry = slot ? load_entry(slot) : 0;
    if (!(entry & present_bits(cpu))) return violation(w, 0, entry);
    if (misconfigured(cpu, entry, level)) return misconfiguration(w);
    slots[depth] = slot;
    seen[depth++] = entry;
    permissions &= entry;
    if (level > 1 && !(entry & kLarge)) {
      table = entry & 0x000F'FFFF'FFFF'F000ull;
      continue;
    }
    page.shift = shift;
    page.physical = (entry & 0x000F'FFFF'FFFF'F000ull & ~((1ull << shift) - 1)) | (guest_physical & ((1ull << shift) - 1));
    break;
  }
  page.executable_supervisor = permissions & kExecute;
  page.executable_user = permissions & (cpu.ept_mode_based ? kExecuteUser : kExecute);
  const bool executable = access.user ? page.executable_user : page.executable_supervisor;
  const bool allowed = access.fetch ? executable : (as_write ? (permissions & kWrite) && (permissions & kRead) : permissions & kRead);
  if (!allowed) return violation(w, permissions, seen[depth - 1]);
  page.writable = permissions & kWrite;
  if (!accessed_dirty) return true;

  for (unsigned i = 0; i < depth; i++) {
    const bool leaf = i + 1 == depth;
    u64 wanted = kAccessed;
    if (leaf && as_write) {
      wanted |= kDirty;
      if (!(seen[i] & kDirty) && !vmx::log_dirty(cpu, guest_physical & kPageMask)) return false;
    }
    if ((seen[i] & wanted) != wanted && !update_entry(cpu, slots[i], seen[i], wanted)) {
      cpu.fault = {.kind = Fault::Kind::Retry};
      return false;
    }
    if (leaf) page.writable = page.writable && ((seen[i] | wanted) & kDirty);
  }
  return true;
}

} // namespace abyme::soft::mmu
