#pragma once
#include "net/vhost/split_ring.hpp"

namespace abyme::net {

// The device's side of a packed virtqueue (virtio 1.2 §2.8). Chains are completed in order, so the place of the next
// available and of the next used descriptor move together.
class PackedRing {
public:
  [[nodiscard]] bool attach(const GuestMemory &memory, const RingSetup &setup, u32 base);
  [[nodiscard]] Next next(const GuestMemory &memory, bool writable, Chain &chain);
  void prefetch(const GuestMemory &memory, unsigned ahead) const;
  void complete(const Chain &chain, u32 written);
  struct Place {
    u16 index = 0;
    bool wrap = true;
  };
  [[nodiscard]] Place mark() const { return next_; }
  void rewind(Place mark) { next_ = mark; }
  void publish() {}
  [[nodiscard]] bool wants_call();
  void want_kicks(bool wanted);
  [[nodiscard]] bool has_available() const;
  // Bits 0-15 the available place with its wrap counter, 16-31 the used one (vhost-user, VHOST_USER_GET_VRING_BASE).
  [[nodiscard]] u32 base() const;

private:
  [[nodiscard]] bool available(u16 flags, bool wrap) const;
  void advance(Place &place, u16 by) const;
  [[nodiscard]] bool gather_indirect(const GuestMemory &memory, const vring_packed_desc &d, bool writable,
                                     Chain &chain) const;

  u16 size_ = 0;
  bool indirect_ = false, event_index_ = false;
  vring_packed_desc *descriptors_ = nullptr;
  vring_packed_desc_event *driver_ = nullptr, *device_ = nullptr;
  Place next_;    // available
  Place used_;    // to be completed
  Place checked_; // used at the last wants_call()
};

} // namespace abyme::net
