#include "net/fdb/fdb.hpp"
#include <algorithm>
#include <bit>
#include <span>

namespace abyme::net {

Fdb::Fdb(u32 capacity, u64 secret)
    : capacity_(capacity ? capacity : 1), secret_(secret), secret_odd_((secret * 0x9e37'79b9'7f4a'7c15ULL) | 1),
      lists_(kMaxPorts) {
  const u32 size = std::max(std::bit_ceil(capacity_ + capacity_ / 2), 2 * kBucketSlots); // at most two thirds full
  mask_ = size - 1;
  home_mask_ = mask_ & ~(kBucketSlots - 1);
  slots_.resize(size);
  links_.resize(size);
}

u32 Fdb::slot_of(FdbKey key) const {
  u32 i = home(key);
  while (slots_[i].key.value && slots_[i].key != key) i = (i + 1) & mask_;
  return i;
}

void Fdb::link_newest(u32 slot) {
  List &list = lists_[to_index(slots_[slot].port)];
  links_[slot] = {.older = list.newest, .newer = kNil};
  if (list.newest != kNil)
    links_[list.newest].newer = slot;
  else
    list.oldest = slot;
  list.newest = slot;
  list.count++;
  learned_++;
}

void Fdb::unlink(u32 slot) {
  List &list = lists_[to_index(slots_[slot].port)];
  const Link link = links_[slot];
  (link.older != kNil ? links_[link.older].newer : list.oldest) = link.newer;
  (link.newer != kNil ? links_[link.newer].older : list.newest) = link.older;
  list.count--;
  learned_--;
}

void Fdb::relocate(u32 from, u32 to) {
  slots_[to] = slots_[from];
  List &list = lists_[to_index(slots_[to].port)];
  const Link link = links_[to] = links_[from];
  (link.older != kNil ? links_[link.older].newer : list.oldest) = to;
  (link.newer != kNil ? links_[link.newer].older : list.newest) = to;
}

// Empties a slot and closes the gap, so that no probe needs tombstones (Knuth, TAOCP 3 §6.4, algorithm R).
void Fdb::erase(u32 slot) {
  unlink(slot);
  u32 gap = slot;
  for (u32 i = (slot + 1) & mask_; slots_[i].key.value; i = (i + 1) & mask_) {
    const u32 distance_home = (i - home(slots_[i].key)) & mask_;
    if (distance_home < ((i - gap) & mask_)) continue;
    relocate(i, gap);
    gap = i;
  }
  slots_[gap] = {};
}

void Fdb::evict_from_largest() {
  u32 largest = 0;
  for (u32 p = 1; p < ports_seen_; p++)
    if (lists_[p].count > lists_[largest].count) largest = p;
  erase(lists_[largest].oldest);
  evicted_++;
}

Learned Fdb::learn(FdbKey key, PortIndex port, u32 second, u32 port_limit) {
  u32 i = slot_of(key);
  Slot &s = slots_[i];
  if (s.key.value) {
    if (s.port == port && s.last_seen == second) return Learned::Known;
    if (s.port != port && learned(port) >= port_limit) return Learned::PortLimit;
    ports_seen_ = std::max(ports_seen_, to_index(port) + 1);
    const bool moved = s.port != port;
    unlink(i);
    s.port = port;
    s.last_seen = second;
    link_newest(i);
    return moved ? Learned::Moved : Learned::Known;
  }
  if (learned(port) >= port_limit) return Learned::PortLimit;
  ports_seen_ = std::max(ports_seen_, to_index(port) + 1);
  if (learned_ >= capacity_) {
    evict_from_largest();
    i = slot_of(key); // closing the gap may have moved the empty slot
  }
  slots_[i] = {.key = key, .last_seen = second, .port = port};
  link_newest(i);
  return Learned::Added;
}

void Fdb::forget(PortIndex port) {
  List &list = lists_[to_index(port)];
  while (list.count) erase(list.oldest);
}

u32 Fdb::age(u32 second) {
  const u32 before = learned_;
  for (List &list : std::span(lists_).first(ports_seen_))
    while (list.count && slots_[list.oldest].last_seen < second) erase(list.oldest);
  return before - learned_;
}

void Fdb::for_each(const std::function<void(const FdbEntry &)> &visit) const {
  for (const Slot &s : slots_)
    if (s.key.value) visit({.key = s.key, .port = s.port, .last_seen = s.last_seen});
}

} // namespace abyme::net
