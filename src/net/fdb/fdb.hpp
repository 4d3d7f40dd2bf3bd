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

// The forwarding database of learned addresses. Open addressing with linear probing that begins at a cache line's first
// entry, so that nearly every answer lies in one line, its age included; every port's learned entries also form a list
// in the order in which they were last refreshed, so that ageing and eviction touch only what goes. An entry moves in
// its list at most once a second.
class Fdb {
public:
  // At most `capacity` learned addresses. `secret` keeps a hostile guest from choosing addresses that collide.
  Fdb(u32 capacity, u64 secret);

  // The cache line where the search for a key begins. A burst's are worked out and prefetched before the first is read.
  enum class Bucket : u32 {};
  [[nodiscard]] Bucket bucket(FdbKey key) const { return Bucket{home(key)}; }
  void prefetch(Bucket bucket) const { __builtin_prefetch(&slots_[static_cast<u32>(bucket)]); }
  [[nodiscard]] PortIndex find(Bucket bucket, FdbKey key) const {
    const Slot *line = &slots_[static_cast<u32>(bucket)];
    if (const Slot &s = candidate(line, key); s.key == key) return s.port;
    if (!line[kBucketSlots - 1].key.value) return kNoPort;
    return slots_[slot_of(key)].port; // an empty slot has kNoPort
  }
  [[nodiscard]] PortIndex find(FdbKey key) const { return find(bucket(key), key); }
  // The frequent case of learn(), in line: known at this port and seen in this second.
  [[nodiscard]] bool fresh(Bucket bucket, FdbKey key, PortIndex port, u32 second) const {
    const Slot &s = candidate(&slots_[static_cast<u32>(bucket)], key);
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
  static constexpr u32 kBucketSlots = 4;
  static_assert(sizeof(Slot) * kBucketSlots == 64);
  struct Link {
    u32 older = kNil, newer = kNil;
  };
  struct List {
    u32 oldest = kNil, newest = kNil, count = 0;
  };

  [[nodiscard]] u32 home(FdbKey key) const {
    const u128 product = u128{key.value ^ secret_} * secret_odd_;
    return static_cast<u32>(static_cast<u64>(product >> 64) ^ static_cast<u64>(product)) & home_mask_;
  }
  // The slot of the line that has the key, if any has, without a branch: where in its line a key lies cannot be
  // predicted.
  [[nodiscard]] static const Slot &candidate(const Slot *line, FdbKey key) {
    return line[u32{line[1].key == key} + 2 * u32{line[2].key == key} + 3 * u32{line[3].key == key}];
  }
  [[nodiscard]] u32 slot_of(FdbKey key) const; // where it is, or the empty slot where it would go
  void link_newest(u32 slot);
  void unlink(u32 slot);
  void erase(u32 slot);
  void relocate(u32 from, u32 to);
  void evict_from_largest();

  u32 capacity_, mask_, home_mask_;
  u64 secret_, secret_odd_;
  u32 learned_ = 0;
  u64 evicted_ = 0;
  std::vector<Slot, HugeAllocator<Slot>> slots_;
  std::vector<Link> links_; // beside slots_: only refreshing, ageing and eviction need it
  std::vector<List> lists_; // by port
  u32 ports_seen_ = 0;      // lists from here on are empty
};

} // namespace abyme::net
