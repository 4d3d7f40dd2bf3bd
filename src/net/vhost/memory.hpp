#pragma once
#include "net/vhost/mapping.hpp"
#include <vector>

namespace abyme::net {

// A region of the guest's memory as a front-end announces it (vhost-user, "Memory region description").
struct RegionInfo {
  u64 guest = 0, size = 0, user = 0, offset = 0; // guest-physical; the front-end's own address; where in the file
};

// The guest's memory as the switch sees it. All guest-given addresses go through here.
class GuestMemory {
public:
  static constexpr unsigned kMaxRegions = 509; // as many as KVM's slots, which is what front-ends count on

  [[nodiscard]] Result<void> add(const RegionInfo &info, const Fd &file);
  [[nodiscard]] bool remove(u64 guest, u64 size, u64 user);
  void clear() { regions_.clear(); }
  [[nodiscard]] bool empty() const { return regions_.empty(); }

  // Host address of guest-physical [address, address + length), or nullptr unless one region holds it all.
  [[nodiscard]] u8 *at(u64 address, u64 length) const {
    for (const Region &r : regions_)
      if (address - r.guest < r.size && length <= r.size - (address - r.guest)) return r.host + (address - r.guest);
    return nullptr;
  }
  // As many bytes from `address` on as one region holds, at most `length`.
  [[nodiscard]] std::span<u8> some(u64 address, u64 length) const {
    for (const Region &r : regions_)
      if (address - r.guest < r.size)
        return {r.host + (address - r.guest), std::min(length, r.size - (address - r.guest))};
    return {};
  }
  // The same for an address of the front-end's own, which ring addresses are.
  [[nodiscard]] u8 *at_user(u64 address, u64 length) const {
    for (const Region &r : regions_)
      if (address - r.user < r.size && length <= r.size - (address - r.user)) return r.host + (address - r.user);
    return nullptr;
  }
  [[nodiscard]] bool torn() const {
    for (const Region &r : regions_)
      if (r.mapping.torn()) return true;
    return false;
  }

private:
  struct Region {
    u64 guest, size, user;
    u8 *host;
    SharedMapping mapping;
  };
  std::vector<Region> regions_;
};

} // namespace abyme::net
