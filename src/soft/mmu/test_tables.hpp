#pragma once
#include "soft/system/test_machine.hpp"

// For tests: paging structures of every kind that map one page, with all rights unless a test changes an entry.
namespace abyme::soft::mmu {

enum class Paging : u8 { Narrow, Pae, FourLevel };

class PagedMachine : public system::TestMachine {
public:
  static constexpr u64 kLinear = 0x0040'3000, kTables = 0x100000, kPage = 0x200000;
  static constexpr u64 kPresent = 1, kWrite = 2, kUser = 4, kAccessed = 0x20, kDirty = 0x40, kLarge = 0x80,
                       kNoExecute = 1ull << 63;

  void page(Paging kind) {
    kind_ = kind;
    kind == Paging::FourLevel ? long_mode() : protected_mode();
    cpu.cr0 |= x86::cr0::PG | x86::cr0::WP;
    cpu.cr3 = kTables;
    cpu.cr4 = kind == Paging::Narrow ? x86::cr4::PSE : x86::cr4::PAE;
    cpu.efer |= kind == Paging::Narrow ? 0 : x86::efer::NXE;
    cpu.pdpte[0] = kTables + 0x2000 + kPresent;
    for (unsigned level = top(); level > 0; level--)
      set(level, (level == 1 ? kPage : table(level - 1)) | kPresent | kWrite | kUser);
    mmu::flush_all(cpu);
    mode_changed(cpu);
  }
  [[nodiscard]] unsigned top() const { return kind_ == Paging::FourLevel ? 4 : 2; }
  [[nodiscard]] u64 table(unsigned level) const {
    return kTables + (kind_ == Paging::Narrow ? 2 - level : 4 - level) * 0x1000;
  }
  [[nodiscard]] u64 entry_at(unsigned level, u64 linear = kLinear) const {
    if (kind_ == Paging::Narrow) return table(level) + (linear >> (2 + 10 * level) & 0x3FF) * 4;
    return table(level) + (linear >> (3 + 9 * level) & 0x1FF) * 8;
  }
  void set(unsigned level, u64 entry, u64 linear = kLinear) {
    if (kind_ == Paging::Narrow)
      store<u32>(entry_at(level, linear), static_cast<u32>(entry));
    else
      store<u64>(entry_at(level, linear), entry);
  }
  u64 get(unsigned level) { return kind_ == Paging::Narrow ? load<u32>(entry_at(level)) : load<u64>(entry_at(level)); }
  void change(unsigned level, u64 clear, u64 add) { set(level, (get(level) & ~clear) | add); }

private:
  Paging kind_ = Paging::FourLevel;
};

} // namespace abyme::soft::mmu
