#include "net/vhost/split_ring.hpp"
#include <atomic>

namespace abyme::net {
namespace {

// What the guest can change is read through here, exactly once.
template <class T> T once(const T &from) { return *static_cast<const volatile T *>(&from); }

template <class T> T *area(const GuestMemory &memory, u64 address, u64 bytes, u64 alignment) {
  u8 *host = memory.at_user(address, bytes); // a region may lie anywhere in its file
  const bool aligned = address % alignment == 0 && reinterpret_cast<u64>(host) % alignment == 0;
  return aligned ? reinterpret_cast<T *>(host) : nullptr;
}

} // namespace

bool SplitRing::attach(const GuestMemory &memory, const RingSetup &s) {
  const u64 n = s.size;
  if (n == 0 || n > kMaxQueueSize || (n & (n - 1))) return false;
  // Sizes and alignments of virtio 1.2 §2.7; the two bytes behind the rings are the event indexes.
  auto *descriptors = area<u8>(memory, s.descriptors, 16 * n, 16);
  auto *driver = area<vring_avail>(memory, s.driver, 6 + 2 * n, 2);
  auto *device = area<vring_used>(memory, s.device, 6 + 8 * n, 4);
  if (!descriptors || !driver || !device) return false;
  descriptors_ = descriptors;
  driver_ = driver;
  device_ = device;
  mask_ = static_cast<u16>(n - 1);
  indirect_ = s.indirect;
  event_index_ = s.event_index;
  // Where to go on: the front-end may not know how far we came before a crash of ours; the used ring does, for we
  // complete in order.
  next_ = seen_ = used_ = published_ = call_checked_ = once(device->idx);
  return true;
}

bool SplitRing::has_available() const { return __atomic_load_n(&driver_->idx, __ATOMIC_ACQUIRE) != next_; }

bool SplitRing::gather(const GuestMemory &memory, const vring_desc &first, bool writable, Chain &chain) const {
  vring_desc d = first;
  const u8 *table = descriptors_;
  u32 table_size = u32{mask_} + 1, left = table_size;
  if (d.flags & VRING_DESC_F_INDIRECT) { // §2.7.5.3: alone or last in its chain, never nested; we take it alone
    if (!indirect_ || d.flags & VRING_DESC_F_NEXT || d.len == 0 || d.len % sizeof(vring_desc)) return false;
    table = memory.at(d.addr, d.len);
    table_size = d.len / sizeof(vring_desc);
    if (!table || table_size > kMaxQueueSize) return false;
    left = table_size;
    d = fetch<vring_desc>(table, 0);
    if (d.flags & VRING_DESC_F_INDIRECT) return false;
  }
  while (true) {
    if (static_cast<bool>(d.flags & VRING_DESC_F_WRITE) != writable) return false;
    if (!add_buffer(memory, chain, d.addr, d.len)) return false;
    if (!(d.flags & VRING_DESC_F_NEXT)) return true;
    if (--left == 0 || d.next >= table_size) return false; // a loop, or out of the table
    d = fetch<vring_desc>(table, d.next);
    if (d.flags & VRING_DESC_F_INDIRECT) return false;
  }
}

Next SplitRing::next(const GuestMemory &memory, bool writable, Chain &chain) {
  if (next_ == seen_) {
    seen_ = __atomic_load_n(&driver_->idx, __ATOMIC_ACQUIRE);
    if (next_ == seen_) return Next::Empty;
  }
  if (static_cast<u16>(seen_ - next_) > mask_ + 1) return Next::Broken; // more available than the ring has
  const u16 head = once(driver_->ring[next_ & mask_]);
  if (head > mask_) return Next::Broken;
  chain.clear();
  chain.id = head;
  chain.descriptors = 1;
  if (!gather(memory, fetch<vring_desc>(descriptors_, head), writable, chain)) return Next::Broken;
  next_++;
  return Next::Got;
}

void SplitRing::prefetch(const GuestMemory &memory, unsigned ahead) const {
  const u16 at = static_cast<u16>(next_ + ahead);
  if (static_cast<u16>(seen_ - at) > mask_ || at == seen_) return;
  const auto d = fetch<vring_desc>(descriptors_, once(driver_->ring[at & mask_]) & mask_);
  if (const u8 *p = memory.at(d.addr, 1)) __builtin_prefetch(p);
}

void SplitRing::complete(const Chain &chain, u32 written) { device_->ring[used_++ & mask_] = {chain.id, written}; }

void SplitRing::publish() {
  if (published_ == used_) return;
  __atomic_store_n(&device_->idx, used_, __ATOMIC_RELEASE);
  published_ = used_;
}

bool SplitRing::wants_call() {
  if (call_checked_ == used_) return false;
  const u16 before = std::exchange(call_checked_, used_);
  std::atomic_thread_fence(
      std::memory_order_seq_cst); // the index before the wish: the driver does it the other way round
  if (!event_index_) return !(once(driver_->flags) & VRING_AVAIL_F_NO_INTERRUPT);
  const u16 event = once(driver_->ring[mask_ + 1]);
  return vring_need_event(event, used_, before);
}

void SplitRing::want_kicks(bool wanted) {
  if (event_index_) {
    // Without a wish the index stays behind: it asks for a kick only once the driver has gone all the way round.
    auto *event = reinterpret_cast<u16 *>(&device_->ring[mask_ + 1]);
    __atomic_store_n(event, static_cast<u16>(wanted ? next_ : next_ - 1), __ATOMIC_RELAXED);
  } else {
    __atomic_store_n(&device_->flags, static_cast<u16>(wanted ? 0 : VRING_USED_F_NO_NOTIFY), __ATOMIC_RELAXED);
  }
  if (wanted) std::atomic_thread_fence(std::memory_order_seq_cst);
}

} // namespace abyme::net
