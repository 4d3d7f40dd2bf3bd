#pragma once
#include "net/fdb/fdb.hpp"
#include <vector>

namespace abyme::net {

// The addresses of connected adapters, whatever their VLAN: they win over learned ones. Small, rebuilt at each change
// and quick to ask.
class PinTable {
public:
  PinTable() { rebuild(); }
  [[nodiscard]] PortIndex find(MacAddress mac) const {
    const u64 bit = hash(mac) & filter_mask_;
    if (!(filter_[bit / 64] >> (bit % 64) & 1)) return kNoPort;
    for (u64 i = home(mac);; i = (i + 1) & mask_) {
      if (table_[i].mac == mac) return table_[i].port;
      if (table_[i].mac.is_zero()) return kNoPort;
    }
  }
  // kNoPort when done, otherwise the port that has the address already and keeps it.
  [[nodiscard]] PortIndex pin(MacAddress mac, PortIndex port) {
    const PortIndex owner = find(mac);
    if (owner != kNoPort) return owner == port ? kNoPort : owner;
    pins_.push_back({mac, port});
    rebuild();
    return kNoPort;
  }
  void unpin(PortIndex port) {
    std::erase_if(pins_, [&](const Pin &p) { return p.port == port; });
    rebuild();
  }

private:
  struct Pin {
    MacAddress mac;
    PortIndex port = kNoPort;
  };
  [[nodiscard]] static u64 hash(MacAddress mac) { return mac.value * 0x9e37'79b9'7f4a'7c15ULL >> 32; }
  [[nodiscard]] u64 home(MacAddress mac) const { return hash(mac) & mask_; }
  void rebuild() {
    mask_ = std::bit_ceil(4 * pins_.size() + 8) - 1;
    table_.assign(mask_ + 1, {});
    filter_mask_ = std::bit_ceil(64 * pins_.size() + 64) - 1;
    filter_.assign(filter_mask_ / 64 + 1, 0);
    for (const Pin &p : pins_) {
      const u64 bit = hash(p.mac) & filter_mask_;
      filter_[bit / 64] |= u64{1} << (bit % 64);
      u64 i = home(p.mac);
      while (!table_[i].mac.is_zero()) i = (i + 1) & mask_;
      table_[i] = p;
    }
  }
  std::vector<Pin> pins_;
  std::vector<Pin> table_; // open addressing; a zero address is empty
  u64 mask_ = 0;
  // A bit for each address's hash, one in 64 set: most addresses that nobody has are told without a probe.
  std::vector<u64> filter_;
  u64 filter_mask_ = 0;
};

} // namespace abyme::net
