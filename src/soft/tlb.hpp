#pragma once
#include "base/int.hpp"
#include <array>

namespace abyme::soft {

// The software TLB: linear page -> host address. A tag is the page's linear address with the context (address space and privilege) in its
// low 12 bits; an access hits when its tag equals the one for its kind. Pages that must be looked at on each access (MMIO, code on
// writes, not yet dirty) have kInvalid for that kind. Only the owning vCPU's thread touches it.
struct TlbEntry {
  u64 read;
  u64 write;
  u64 addend; // host address - linear address
  u64 flags;  // kLargePage: part of a larger mapping
};

struct Tlb {
  static constexpr unsigned kBits = 13;
  static constexpr u64 kInvalid = ~0ull;
  static constexpr u64 kLargePage = 1;
  std::array<TlbEntry, 1u << kBits> entries;

  // `salt` keeps address spaces from evicting each other: it differs between privilege levels and VPIDs, not between PCIDs.
  [[nodiscard]] static constexpr u64 index(u64 linear, u64 salt) { return ((linear >> 12) ^ salt) & ((1u << kBits) - 1); }
};

} // namespace abyme::soft
