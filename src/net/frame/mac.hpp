#pragma once
#include "base/int.hpp"
#include "base/result.hpp"
#include <bit>
#include <compare>
#include <cstring>
#include <string>
#include <string_view>

namespace abyme::net {

// An Ethernet address as a 48-bit number, first byte on the wire highest.
struct MacAddress {
  u64 value = 0;
  constexpr auto operator<=>(const MacAddress &) const = default;
  // The individual/group bit (IEEE 802 §8.2): multicast and broadcast.
  [[nodiscard]] constexpr bool is_group() const { return value >> 40 & 1; }
  [[nodiscard]] constexpr bool is_zero() const { return value == 0; }
  // Reads eight bytes, of which it uses six: an Ethernet header has them behind either address.
  [[nodiscard]] static MacAddress load(const u8 *p) {
    u64 raw;
    std::memcpy(&raw, p, sizeof raw);
    return {__builtin_bswap64(raw) >> 16};
  }
  void store(u8 *p) const {
    for (int i = 5; i >= 0; i--) p[5 - i] = static_cast<u8>(value >> (8 * i));
  }
};

constexpr MacAddress kBroadcast{0xffff'ffff'ffff};

[[nodiscard]] Result<MacAddress> parse_mac(std::string_view text);
[[nodiscard]] std::string to_string(MacAddress mac);

} // namespace abyme::net
