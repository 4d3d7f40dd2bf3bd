#pragma once
#include "net/vhost/chain.hpp"

namespace abyme::net {

struct RingSetup {
  u16 size = 0;
  u64 descriptors = 0, driver = 0, device = 0; // the front-end's addresses of the three areas
  bool indirect = false, event_index = false;
};

// The device's side of a split virtqueue (virtio 1.2 §2.7). The guest may change any of its memory at any time:
// everything is read once and checked.
class SplitRing {
public:
  // False when an area is misaligned or outside the guest's memory.
  [[nodiscard]] bool attach(const GuestMemory &memory, const RingSetup &setup);

  // Gathers the next available chain: `writable` buffers for frames to the guest, readable ones from it. Consumed only
  // by complete().
  [[nodiscard]] Next next(const GuestMemory &memory, bool writable, Chain &chain);
  // Hints the processor at what the coming next() calls will touch.
  void prefetch(const GuestMemory &memory, unsigned ahead) const;
  void complete(const Chain &chain, u32 written);
  // Un-reads what next() gave since the mark, none of it completed.
  [[nodiscard]] u16 mark() const { return next_; }
  void rewind(u16 mark) { next_ = mark; }

  void publish(); // makes completions visible
  [[nodiscard]] bool wants_call();
  void want_kicks(bool wanted);
  [[nodiscard]] bool has_available() const;
  // What the front-end hears when the ring stops.
  [[nodiscard]] u32 base() const { return next_; }

private:
  [[nodiscard]] bool gather(const GuestMemory &memory, const vring_desc &first, bool writable, Chain &chain) const;

  u16 mask_ = 0;
  bool indirect_ = false, event_index_ = false;
  const u8 *descriptors_ = nullptr;
  vring_avail *driver_ = nullptr;
  vring_used *device_ = nullptr;
  u16 next_ = 0;         // of the available ring
  u16 seen_ = 0;         // the driver's index when last read
  u16 used_ = 0;         // completions so far
  u16 published_ = 0;    // of which the driver knows
  u16 call_checked_ = 0; // used index at the last wants_call()
};

} // namespace abyme::net
