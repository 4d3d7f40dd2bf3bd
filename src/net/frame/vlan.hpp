#pragma once
#include "base/int.hpp"
#include "base/result.hpp"
#include <bitset>
#include <compare>
#include <string>
#include <string_view>

namespace abyme::net {

// A VLAN as the switch sees it: 1 to 4094 on the wire, 0 for frames that belong to none (802.1Q §9.6 gives 0 and 4095
// no VLAN).
struct VlanId {
  u16 value = 0;
  constexpr auto operator<=>(const VlanId &) const = default;
};

constexpr VlanId kNoVlan{0};
constexpr u16 kVlanCount = 4096;
constexpr u16 kLastVlan = 4094;
constexpr u16 kReservedVlan = 4095;

constexpr u16 kTpidCustomer = 0x8100; // 802.1Q
constexpr u16 kTpidService = 0x88a8;  // 802.1ad
constexpr u32 kTagBytes = 4;

[[nodiscard]] constexpr bool is_tpid(u16 ethertype) { return ethertype == kTpidCustomer || ethertype == kTpidService; }

class VlanSet {
public:
  [[nodiscard]] bool has(VlanId v) const { return bits_[v.value]; }
  void add(VlanId v) { bits_[v.value] = true; }
  void add(VlanId first, VlanId last) {
    for (unsigned v = first.value; v <= last.value; v++) bits_[v] = true;
  }
  void remove(VlanId v) { bits_[v.value] = false; }
  [[nodiscard]] bool empty() const { return bits_.none(); }
  bool operator==(const VlanSet &) const = default;

private:
  std::bitset<kVlanCount> bits_;
};

// "10", "1-5,20", "0-4094" (0 stands for untagged frames) or "all".
[[nodiscard]] Result<VlanSet> parse_vlans(std::string_view text);
[[nodiscard]] std::string to_string(const VlanSet &set);

} // namespace abyme::net
