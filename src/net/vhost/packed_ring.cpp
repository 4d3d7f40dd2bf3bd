#include "net/vhost/packed_ring.hpp"
#include <atomic>

namespace abyme::net {
namespace {

constexpr u16 kAvailable = 1u << VRING_PACKED_DESC_F_AVAIL, kUsed = 1u << VRING_PACKED_DESC_F_USED;
constexpr u16 kWrapBit = 1u << VRING_PACKED_EVENT_F_WRAP_CTR;

template <class T> T once(const T &from) { return *static_cast<const volatile T *>(&from); }

vring_packed_desc read_descriptor(const vring_packed_desc &d) {
  return {once(d.addr), once(d.len), once(d.id), once(d.flags)};
}

u32 place_bits(PackedRing::Place p) { return p.index | (p.wrap ? 0x8000u : 0u); }

} // namespace

bool PackedRing::attach(const GuestMemory &memory, const RingSetup &s, u32 base) {
  if (s.size == 0 || s.size > kMaxQueueSize || s.descriptors % 16 || s.driver % 4 || s.device % 4) return false;
  descriptors_ = reinterpret_cast<vring_packed_desc *>(memory.at_user(s.descriptors, u64{16} * s.size));
  driver_ = reinterpret_cast<vring_packed_desc_event *>(memory.at_user(s.driver, 4));
  device_ = reinterpret_cast<vring_packed_desc_event *>(memory.at_user(s.device, 4));
  if (!descriptors_ || !driver_ || !device_) return false;
  const u64 addresses =
      reinterpret_cast<u64>(descriptors_) | reinterpret_cast<u64>(driver_) << 2 | reinterpret_cast<u64>(device_) << 2;
  if (addresses % 16) return false; // a region may lie anywhere in its file
  size_ = s.size;
  indirect_ = s.indirect;
  event_index_ = s.event_index;
  next_ = {.index = static_cast<u16>(base & 0x7fff), .wrap = static_cast<bool>(base & 0x8000)};
  if (next_.index >= size_) return false;
  used_ = checked_ = next_;
  return true;
}

u32 PackedRing::base() const {
  const u32 place = place_bits(next_);
  return place << 16 | place;
}

bool PackedRing::available(u16 flags, bool wrap) const {
  return static_cast<bool>(flags & kAvailable) == wrap && static_cast<bool>(flags & kUsed) != wrap;
}

bool PackedRing::has_available() const {
  return available(__atomic_load_n(&descriptors_[next_.index].flags, __ATOMIC_ACQUIRE), next_.wrap);
}

void PackedRing::advance(Place &place, u16 by) const {
  place.index = static_cast<u16>(place.index + by);
  if (place.index < size_) return;
  place.index = static_cast<u16>(place.index - size_);
  place.wrap = !place.wrap;
}

bool PackedRing::gather_indirect(const GuestMemory &memory, const vring_packed_desc &d, bool writable,
                                 Chain &chain) const {
  if (!indirect_ || d.len == 0 || d.len % sizeof d || d.len / sizeof d > kMaxQueueSize) return false;
  const u8 *table = memory.at(d.addr, d.len);
  if (!table) return false;
  for (u32 i = 0; i < d.len / sizeof d; i++) { // §2.8.7: the table is the chain
    const vring_packed_desc entry = fetch<vring_packed_desc>(table, i);
    if (static_cast<bool>(entry.flags & VRING_DESC_F_WRITE) != writable || entry.flags & VRING_DESC_F_INDIRECT)
      return false;
    if (!add_buffer(memory, chain, entry.addr, entry.len)) return false;
  }
  return true;
}

Next PackedRing::next(const GuestMemory &memory, bool writable, Chain &chain) {
  if (!has_available()) return Next::Empty;
  chain.clear();
  Place at = next_;
  while (true) {
    const vring_packed_desc d = read_descriptor(descriptors_[at.index]);
    chain.descriptors++;
    chain.id = d.id; // of the last descriptor (§2.8.6)
    if (d.flags & VRING_DESC_F_INDIRECT) {
      if (chain.descriptors > 1 || d.flags & VRING_DESC_F_NEXT || !gather_indirect(memory, d, writable, chain))
        return Next::Broken;
    } else if (static_cast<bool>(d.flags & VRING_DESC_F_WRITE) != writable ||
               !add_buffer(memory, chain, d.addr, d.len)) {
      return Next::Broken;
    }
    advance(at, 1);
    if (!(d.flags & VRING_DESC_F_NEXT)) break;
    if (chain.descriptors == size_) return Next::Broken; // a loop
  }
  next_ = at;
  return Next::Got;
}

void PackedRing::prefetch(const GuestMemory &memory, unsigned ahead) const {
  Place at = next_;
  advance(at, static_cast<u16>(ahead % size_));
  const vring_packed_desc &d = descriptors_[at.index];
  if (!available(once(d.flags), at.wrap)) return;
  if (const u8 *p = memory.at(once(d.addr), 1)) __builtin_prefetch(p);
}

void PackedRing::complete(const Chain &chain, u32 written) {
  vring_packed_desc &d = descriptors_[used_.index];
  d.id = chain.id;
  d.len = written;
  const u16 flags = used_.wrap ? kAvailable | kUsed : 0;
  __atomic_store_n(&d.flags, static_cast<u16>(flags | (written ? VRING_DESC_F_WRITE : 0)), __ATOMIC_RELEASE);
  advance(used_, chain.descriptors);
}

bool PackedRing::wants_call() {
  if (checked_.index == used_.index && checked_.wrap == used_.wrap) return false;
  const Place before = std::exchange(checked_, used_);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const u16 flags = once(driver_->flags) & 3u;
  if (flags != VRING_PACKED_EVENT_FLAG_DESC || !event_index_) return flags != VRING_PACKED_EVENT_FLAG_DISABLE;
  const u16 raw = once(driver_->off_wrap);
  // Indexes are compared in the used place's lap: an event of the other lap lies one ring behind.
  u16 event = raw & static_cast<u16>(~kWrapBit);
  if (static_cast<bool>(raw & kWrapBit) != used_.wrap) event = static_cast<u16>(event - size_);
  const u16 old = before.wrap == used_.wrap ? before.index : static_cast<u16>(before.index - size_);
  return vring_need_event(event, used_.index, old);
}

void PackedRing::want_kicks(bool wanted) {
  const u16 flags = wanted ? VRING_PACKED_EVENT_FLAG_ENABLE : VRING_PACKED_EVENT_FLAG_DISABLE;
  __atomic_store_n(&device_->flags, flags, __ATOMIC_RELAXED);
  if (wanted) std::atomic_thread_fence(std::memory_order_seq_cst);
}

} // namespace abyme::net
