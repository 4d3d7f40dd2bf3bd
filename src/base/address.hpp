#pragma once
#include "base/int.hpp"
#include <compare>

namespace abyme {

// An address in one of the spaces that must never be mixed up. Arithmetic stays inside the space; leaving it is spelled .value.
template <class Space> struct Address {
  u64 value = 0;
  constexpr Address() = default;
  constexpr explicit Address(u64 v) : value(v) {}
  constexpr auto operator<=>(const Address &) const = default;
  constexpr Address operator+(u64 n) const { return Address(value + n); }
  constexpr Address operator-(u64 n) const { return Address(value - n); }
  constexpr u64 operator-(Address other) const { return value - other.value; }
  constexpr Address page() const { return Address(value & kPageMask); }
  constexpr u64 page_offset() const { return value & ~kPageMask; }
};

using Gpa = Address<struct GuestPhysicalSpace>; // physical address of the VM that L0 runs (L1's physical memory)
using Gva = Address<struct GuestLinearSpace>;   // linear address, before paging

} // namespace abyme
