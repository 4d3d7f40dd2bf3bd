#pragma once
#include "soft/mmu/access.hpp"
#include "soft/mmu/watch.hpp"
#include <bitset>
#include <unordered_map>

namespace abyme::soft {
struct CodePage;
}

namespace abyme::soft::mmu {

// Who wants what of a page.
struct Access {
  bool write = false;
  bool fetch = false;
  bool user = false;     // CPL 3 and not an implicit supervisor access
  bool smap = false;     // a supervisor access to which SMAP applies
};

// A linear page, translated for one access.
struct Page {
  u64 physical = 0;     // of this VM (L1's), of the accessed byte
  bool writable = false; // later writes with the same rights need no walk (write permission, dirty already set)
  bool large = false;   // mapped by more than 4 KiB
  bool huge = false;    // by 1 GiB (or by no paging at all)
};

// Walks the paging structures (and EPT) for one access; sets accessed and dirty bits. False: cpu.fault.
[[nodiscard]] bool walk(Cpu &cpu, u64 linear, Access access, Page &page);

// One step of the second dimension: an L2-physical address through the EPT.
enum class EptUse : u8 { Data, PagingStructure, Pdpte }; // Pdpte: the registers of PAE paging are loaded, for no linear address
struct EptPage {
  u64 physical = 0;
  bool writable = false; // permission and dirty bit
  bool executable_user = false, executable_supervisor = false;
  unsigned shift = 12;   // of the mapping
};
[[nodiscard]] bool ept_walk(Cpu &cpu, u64 guest_physical, Access access, EptUse use, u64 linear, EptPage &page);

// An address space that the TLB knows: what its entries are tagged with.
struct SpaceKey {
  u64 eptp;
  u32 vpid_pcid;
  u32 rules; // what else decides whether an access is allowed: CR0.PG and WP, CR4.PAE, PSE and SMEP, EFER.NXE and LMA
  bool operator==(const SpaceKey &) const = default;
};
struct SpaceHash {
  size_t operator()(const SpaceKey &k) const { return (k.eptp ^ (k.vpid_pcid ^ static_cast<u64>(k.rules) << 32) * 0x9E3779B97F4A7C15ull) * 0xBF58476D1CE4E5B9ull >> 20; }
};

// Linear page -> code page, for instruction fetch.
struct FetchEntry {
  u64 tag = Tlb::kInvalid;
  CodePage *page = nullptr;
};

constexpr u64 kUserPrivilege = 0, kSupervisorSmap = 1, kSupervisor = 2;
constexpr u64 kPrivileges = 3;

// The state behind Cpu::tlb.
struct Mmu {
  Tlb tlb;
  std::array<FetchEntry, 256> fetch;
  std::unordered_map<SpaceKey, u16, SpaceHash> spaces; // -> number, the upper 10 bits of a context
  u16 next_space = 0;
  u64 space = 0;                       // number of the current one
  SpaceKey selected{};                 // its key, while `selection_valid`
  bool selection_valid = false;
  std::bitset<4096> large_regions;     // hash of linear >> 21: a larger mapping may be cached there
  std::bitset<1024> huge_regions;      // hash of linear >> 30
  bool check_alignment = false;        // CR0.AM, RFLAGS.AC and CPL 3
  Watch watch;                         // breakpoints; `enabled` is 0 without any
};

// To be told of each translation that something keeps: a larger mapping is invalidated as a whole.
inline void note_size(Mmu &m, u64 linear, const Page &page) {
  if (page.large) m.large_regions.set(linear >> 21 & 4095);
  if (page.huge) m.huge_regions.set(linear >> 30 & 1023);
}
// Drops one page of the current VPID from the TLB, whatever its mapping.
void forget_page(Cpu &cpu, u64 linear);
[[nodiscard]] u64 context_of(const Cpu &cpu, As as);
[[nodiscard]] u64 salt_of(u64 context, u16 vpid);

} // namespace abyme::soft::mmu
