#pragma once
#include "memory/guest_memory.hpp"
#include "soft/cpu.hpp"

// Entries of paging structures, as they lie in this VM's memory, where other vCPUs may change them at any moment.
namespace abyme::soft::mmu {

// nullptr: not RAM. The caller sees such an entry as not present.
[[nodiscard]] inline u64 *table_slot(Cpu &cpu, u64 physical) { return reinterpret_cast<u64 *>(cpu.memory->host(Gpa(physical), 8)); }

template <class Entry> [[nodiscard]] inline Entry load_entry(const Entry *slot) { return __atomic_load_n(slot, __ATOMIC_RELAXED); }

// Sets `bits` in an entry that still is what was read. False: it has changed; the walk starts again.
template <class Entry> [[nodiscard]] inline bool update_entry(Cpu &cpu, Entry *slot, Entry seen, Entry bits) {
  const bool done = __atomic_compare_exchange_n(slot, &seen, static_cast<Entry>(seen | bits), false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
  const auto *bytes = reinterpret_cast<const u8 *>(slot);
  const Gpa at = cpu.memory->gpa(bytes);
  if (done && cpu.memory->is_code(at.page())) cpu.memory->note_written(at, sizeof(Entry));
  return done;
}

} // namespace abyme::soft::mmu
