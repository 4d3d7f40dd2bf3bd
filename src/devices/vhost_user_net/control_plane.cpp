#include "devices/vhost_user_net/control_plane.hpp"
#include <cstring>
#include <optional>
#include <utility>

namespace abyme::virtio {
namespace {

// virtio 1.2 §5.1.6.5
enum Class : u8 { Rx = 0, Mac = 1, Vlan = 2, Announce = 3, Mq = 4 };
enum MacCommand : u8 { TableSet = 0, AddressSet = 1 };
enum VlanCommand : u8 { Add = 0, Delete = 1 };
constexpr u8 kLastBasicRx = 1, kLastRx = 5; // PROMISC and ALLMULTI; the others are RX_EXTRA's

std::optional<u16> as_u16(std::span<const u8> data) {
  if (data.size() != 2) return std::nullopt;
  return static_cast<u16>(data[0] | data[1] << 8);
}

// One table of MAC addresses: a le32 count, then the addresses.
struct MacTable {
  std::array<MacAddress, ControlState::kMacEntries> entries{};
  u16 count = 0;
  bool overflow = false;
};

std::optional<MacTable> take_table(std::span<const u8> &data) {
  u32 count;
  if (data.size() < sizeof count) return std::nullopt;
  std::memcpy(&count, data.data(), sizeof count);
  data = data.subspan(sizeof count);
  if (count > data.size() / sizeof(MacAddress)) return std::nullopt;
  MacTable table;
  table.overflow = count > ControlState::kMacEntries;
  if (!table.overflow) {
    table.count = static_cast<u16>(count);
    std::memcpy(table.entries.data(), data.data(), count * sizeof(MacAddress));
  }
  data = data.subspan(count * sizeof(MacAddress));
  return table;
}

} // namespace

void ControlPlane::reset() {
  state = {};
  state.mac = mac_;
  announce_acknowledged_ = false;
}

bool ControlPlane::valid(const ControlState &s) const {
  return s.active_pairs >= 1 && s.active_pairs <= max_pairs_ && s.unicast_count <= ControlState::kMacEntries &&
         s.multicast_count <= ControlState::kMacEntries;
}

bool ControlPlane::take_announce_ack() { return std::exchange(announce_acknowledged_, false); }

bool ControlPlane::execute(u64 features, u8 command_class, u8 command, std::span<const u8> data) {
  switch (command_class) {
  case Rx: return set_rx(features, command, data);
  case Mac: return set_mac(features, command, data);
  case Vlan: return set_vlan(features, command, data);
  case Announce:
    if (!(features & net::kGuestAnnounce) || command != 0) return false;
    return announce_acknowledged_ = true;
  case Mq: return set_pairs(features, command, data);
  default: return false;
  }
}

bool ControlPlane::set_rx(u64 features, u8 command, std::span<const u8> data) {
  const u64 needed = command <= kLastBasicRx ? net::kCtrlRx : net::kCtrlRxExtra;
  if (!(features & needed) || command > kLastRx || data.size() != 1 || data[0] > 1) return false;
  const auto bit = static_cast<u8>(1 << command);
  state.rx_mode = static_cast<u8>(data[0] ? state.rx_mode | bit : state.rx_mode & ~bit);
  return true;
}

bool ControlPlane::set_mac(u64 features, u8 command, std::span<const u8> data) {
  if (command == TableSet) return (features & net::kCtrlRx) && set_mac_tables(data);
  if (command != AddressSet || !(features & net::kCtrlMacAddr) || data.size() != state.mac.size()) return false;
  std::memcpy(state.mac.data(), data.data(), data.size());
  return true;
}

bool ControlPlane::set_mac_tables(std::span<const u8> data) {
  const auto unicast = take_table(data);
  const auto multicast = unicast ? take_table(data) : std::nullopt;
  if (!multicast || !data.empty()) return false;
  state.unicast = unicast->entries;
  state.unicast_count = unicast->count;
  state.unicast_overflow = unicast->overflow;
  state.multicast = multicast->entries;
  state.multicast_count = multicast->count;
  state.multicast_overflow = multicast->overflow;
  return true;
}

bool ControlPlane::set_vlan(u64 features, u8 command, std::span<const u8> data) {
  const auto vlan = as_u16(data);
  if (!(features & net::kCtrlVlan) || !vlan || *vlan > 4095 || command > Delete) return false;
  u8 &byte = state.vlans[*vlan / 8];
  const auto bit = static_cast<u8>(1 << *vlan % 8);
  byte = static_cast<u8>(command == Add ? byte | bit : byte & ~bit);
  return true;
}

bool ControlPlane::set_pairs(u64 features, u8 command, std::span<const u8> data) {
  const auto pairs = as_u16(data);
  if (!(features & net::kMq) || command != 0 || !pairs || *pairs == 0 || *pairs > max_pairs_) return false;
  state.active_pairs = *pairs;
  return true;
}

} // namespace abyme::virtio
