#pragma once
#include "net/fdb/huge.hpp"
#include "net/frame/mac.hpp"
#include "net/frame/vlan.hpp"
#include <functional>
#include <vector>

namespace abyme::net {

enum class PortIndex : u16 {};
constexpr PortIndex kNoPort{0xffff};
constexpr unsigned kMaxPorts = 1024;
[[nodiscard]] constexpr unsigned to_index(PortIndex p) { return static_cast<unsigned>(p); }

// Where an address lives: (learning domain, address) in one word.
struct FdbKey {
  u64 value = 0;
  FdbKey() = default;
  FdbKey(VlanId domain, MacAddress mac) : value(u64{domain.value} << 48 | mac.value) {}
  [[nodiscard]] MacAddress mac() const { return {value & 0xffff'ffff'ffff}; }
  [[nodiscard]] VlanId domain() const { return {static_cast<u16>(value >> 48)}; }
  bool operator==(const FdbKey &) const = default;
};

struct FdbEntry {
  FdbKey key = {};
  PortIndex port = kNoPort;
  u32 last_seen = 0; // seconds, on the caller's clock
};

enum class Learned : u8 {
  Known,     // nothing changed but perhaps its age
  Added,     //
  Moved,     // was at another port
  PortLimit, // the port holds as many as it may
};

// The forwarding database of learned addresses. Open addressing with linear probing (four entries a cache line); every
// port's learned entries also form a list in the order in which they were last refreshed, so that ageing and eviction
// touch only what goes. An entry moves in its list at most once a second.
class Fdb {
public:
  // At most `capacity` learned addresses. `secret` keeps a hostile guest from choosing addresses that collide.
  Fdb(u32 capacity, u64 secret);

  void prefetch(FdbKey key) const { __builtin_prefetch(&slots_[home(key)]); }
  [[nodiscard]] PortIndex find(FdbKey key) const {
    for (u32 i = home(key);; i = (i + 1) & mask_) {
      if (slots_[i].key == key) return slots_[i].port;
      if (!slots_[i].key.value) return kNoPort;
    }
  }
  // The frequent case of learn(), in line: known at this port and seen in this second.
  [[nodiscard]] bool fresh(FdbKey key, PortIndex port, u32 second) const {
    const Slot &s = slots_[home(key)];
    return s.key == key && s.port == port && s.last_seen == second;
  }
  Learned learn(FdbKey key, PortIndex port, u32 second, u32 port_limit);

  void forget(PortIndex port);
  // Forgets what was last seen before `second`; returns how many.
  u32 age(u32 second);

  [[nodiscard]] u32 learned(PortIndex port) const { return lists_[to_index(port)].count; }
  [[nodiscard]] u32 learned() const { return learned_; }
  [[nodiscard]] u32 capacity() const { return capacity_; }
  [[nodiscard]] u64 evicted() const { return evicted_; }
  void for_each(const std::function<void(const FdbEntry &)> &visit) const;

private:
  static constexpr u32 kNil = ~u32{0};
  struct Slot {
    FdbKey key; // zero: empty
    u32 last_seen = 0;
    PortIndex port = kNoPort;
  };
  static_assert(sizeof(Slot) == 16);
  struct Link {
    u32 older = kNil, newer = kNil;
  };
  struct List {
    u32 oldest = kNil, newest = kNil, count = 0;
  };

  [[nodiscard]] u32 home(FdbKey key) const {
    const u128 product = u128{key.value ^ secret_} * 0x9e37'79b9'7f4a'7c15ULL;
    return static_cast<u32>((static_cast<u64>(product >> 64) ^ static_cast<u64>(product)) * secret_odd_ >> shift_);
  }
  [[nodiscard]] u32 slot_of(FdbKey key) const; // where it is, or the empty slot where it would go
  void link_newest(u32 slot);
  void unlink(u32 slot);
  void erase(u32 slot);
  void relocate(u32 from, u32 to);
  void evict_from_largest();

  u32 capacity_, mask_, shift_;
  u64 secret_, secret_odd_;
  u32 learned_ = 0;
  u64 evicted_ = 0;
  std::vector<Slot, HugeAllocator<Slot>> slots_;
  std::vector<Link> links_; // beside slots_: only refreshing, ageing and eviction need it
  std::vector<List> lists_; // by port
  u32 ports_seen_ = 0;      // lists from here on are empty
};

} // namespace abyme::net
