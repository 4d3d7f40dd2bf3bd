#pragma once
#include "base/int.hpp"
#include <array>
#include <span>

namespace abyme::virtio {

// virtio 1.2 §5.1.3: what a network card may offer, as bits. Data features need the back end's consent, control
// features are ours.
namespace net {
constexpr u64 kCsum = 1ull << 0, kGuestCsum = 1ull << 1, kMac = 1ull << 5, kGuestTso4 = 1ull << 7,
              kGuestTso6 = 1ull << 8, kGuestEcn = 1ull << 9, kGuestUfo = 1ull << 10, kHostTso4 = 1ull << 11,
              kHostTso6 = 1ull << 12, kHostEcn = 1ull << 13, kHostUfo = 1ull << 14, kMrgRxbuf = 1ull << 15,
              kStatus = 1ull << 16, kCtrlVq = 1ull << 17, kCtrlRx = 1ull << 18, kCtrlVlan = 1ull << 19,
              kCtrlRxExtra = 1ull << 20, kGuestAnnounce = 1ull << 21, kMq = 1ull << 22, kCtrlMacAddr = 1ull << 23;
constexpr u64 kDataFeatures = kCsum | kGuestCsum | kGuestTso4 | kGuestTso6 | kGuestEcn | kGuestUfo | kHostTso4 |
                              kHostTso6 | kHostEcn | kHostUfo | kMrgRxbuf;
constexpr u64 kControlFeatures =
    kMac | kStatus | kCtrlVq | kCtrlRx | kCtrlVlan | kCtrlRxExtra | kGuestAnnounce | kCtrlMacAddr;
} // namespace net

using MacAddress = std::array<u8, 6>;

// What a driver configured through the control queue (virtio 1.2 §5.1.6.5). A card may always let more frames through
// than the filters ask for; they are here for who wants to filter.
struct ControlState {
  // Bits of rx_mode, in the order of the commands of class RX.
  enum RxMode : u8 {
    Promiscuous = 1,
    AllMulticast = 2,
    AllUnicast = 4,
    NoMulticast = 8,
    NoUnicast = 16,
    NoBroadcast = 32
  };
  static constexpr std::size_t kMacEntries = 64;

  MacAddress mac{};
  u16 active_pairs = 1;
  u8 rx_mode = Promiscuous; // until the driver says otherwise
  u8 unicast_overflow = 0;  // the driver named more than kMacEntries: then every address passes
  u8 multicast_overflow = 0;
  u8 reserved = 0;
  u16 unicast_count = 0;
  u16 multicast_count = 0;
  std::array<MacAddress, kMacEntries> unicast{};
  std::array<MacAddress, kMacEntries> multicast{};
  std::array<u8, 512> vlans{}; // a bit for each VLAN ID that passes
  bool operator==(const ControlState &) const = default;
};

// Executes commands of the control queue.
class ControlPlane {
public:
  ControlPlane(const MacAddress &mac, u16 max_pairs) : mac_(mac), max_pairs_(max_pairs) { reset(); }
  void reset();
  // One command: class, command and its data. False is the answer VIRTIO_NET_ERR; then nothing changed.
  [[nodiscard]] bool execute(u64 features, u8 command_class, u8 command, std::span<const u8> data);
  [[nodiscard]] bool valid(const ControlState &state) const;
  // Since the last call, the driver acknowledged the announcement.
  [[nodiscard]] bool take_announce_ack();

  ControlState state;

private:
  [[nodiscard]] bool set_rx(u64 features, u8 command, std::span<const u8> data);
  [[nodiscard]] bool set_mac(u64 features, u8 command, std::span<const u8> data);
  [[nodiscard]] bool set_mac_tables(std::span<const u8> data);
  [[nodiscard]] bool set_vlan(u64 features, u8 command, std::span<const u8> data);
  [[nodiscard]] bool set_pairs(u64 features, u8 command, std::span<const u8> data);

  MacAddress mac_;
  u16 max_pairs_;
  bool announce_acknowledged_ = false;
};

} // namespace abyme::virtio
