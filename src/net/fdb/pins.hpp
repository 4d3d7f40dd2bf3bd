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
  [[nodiscard]] u64 home(MacAddress mac) const { return (mac.value * 0x9e37'79b9'7f4a'7c15ULL >> 32) & mask_; }
  void rebuild() {
    mask_ = std::bit_ceil(4 * pins_.size() + 8) - 1;
    table_.assign(mask_ + 1, {});
    for (const Pin &p : pins_) {
      u64 i = home(p.mac);
      while (!table_[i].mac.is_zero()) i = (i + 1) & mask_;
      table_[i] = p;
    }
  }
  std::vector<Pin> pins_;
  std::vector<Pin> table_; // open addressing; a zero address is empty
  u64 mask_ = 0;
};

} // namespace abyme::net
