#pragma once
#include "net/frame/offload.hpp"
#include "net/switch/port.hpp"
#include "net/vhost/packed_ring.hpp"
#include <variant>

namespace abyme::net {

// What a device and its driver agreed on, as far as frames are concerned.
struct NetFeatures {
  u32 header = 12; // bytes of struct virtio_net_hdr: 10 for legacy drivers without mergeable buffers
  bool mergeable = false;
  bool guest_offloads_checksum = false; // the guest may send unfinished checksums (VIRTIO_NET_F_CSUM)
  OffloadSupport guest_finishes;        // what it takes unfinished
};

// A virtqueue of a network device: frames out of it and into it. The rings' formats differ below next() and complete()
// only.
class NetRing {
public:
  [[nodiscard]] bool attach_split(const GuestMemory &memory, const RingSetup &setup);
  [[nodiscard]] bool attach_packed(const GuestMemory &memory, const RingSetup &setup, u32 base);

  enum class Health : u8 { Good, Broken };
  // Takes what the guest sends, until the batch is full.
  [[nodiscard]] Health receive(const GuestMemory &memory, const NetFeatures &features, FrameBatch &batch);
  // Puts frames into the guest's buffers, each with all its offloads supported. Sets the outcomes of those that did not
  // fit.
  [[nodiscard]] Health transmit(const GuestMemory &memory, const NetFeatures &features, std::span<Egress> frames);

  [[nodiscard]] bool wants_call();
  void want_kicks(bool wanted);
  [[nodiscard]] bool has_available() const;
  [[nodiscard]] u32 base() const;

private:
  std::variant<SplitRing, PackedRing> ring_;
  Chain chain_;
  std::vector<Chain> merged_; // of one frame to the guest
};

} // namespace abyme::net
