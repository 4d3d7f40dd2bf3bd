#include "net/vhost/net_ring.hpp"
#include <algorithm>

namespace abyme::net {
namespace {

// Copies out of a chain, skipping `skip` bytes; the caller knows that the chain has them.
void gather(const Chain &chain, u32 skip, u8 *to, u32 length) {
  for (const auto &piece : chain.pieces) {
    if (skip >= piece.size()) {
      skip -= static_cast<u32>(piece.size());
      continue;
    }
    const u32 n = std::min<u32>(length, static_cast<u32>(piece.size()) - skip);
    std::memcpy(to, piece.data() + skip, n);
    to += n;
    length -= n;
    skip = 0;
    if (!length) return;
  }
}

// Writes a frame's header and pieces through the buffers of one or more chains.
class Scatter {
public:
  explicit Scatter(std::span<const Chain> chains) : chains_(chains) {}
  void put(std::span<const u8> bytes) {
    while (!bytes.empty()) {
      const auto &piece = chains_[chain_].pieces[piece_];
      const std::size_t n = std::min(bytes.size(), piece.size() - at_);
      std::memcpy(piece.data() + at_, bytes.data(), n);
      bytes = bytes.subspan(n);
      at_ += n;
      if (at_ == piece.size()) step();
    }
  }

private:
  void step() {
    at_ = 0;
    if (++piece_ < chains_[chain_].pieces.size()) return;
    piece_ = 0;
    chain_++;
  }
  std::span<const Chain> chains_;
  std::size_t chain_ = 0, piece_ = 0, at_ = 0;
};

struct WireHeader {
  Offload offload;
  u16 buffers = 1;
};
static_assert(sizeof(WireHeader) == 12);

// One chain of the guest's into the batch. False when the batch has no room for it.
bool take_frame(const Chain &chain, const NetFeatures &features, FrameBatch &batch) {
  const u32 length = chain.bytes > features.header ? chain.bytes - features.header : 0;
  const u32 kept = std::min(length, kMaxFrame);
  u8 *to = batch.reserve(kept);
  if (!to) return false;
  Offload offload;
  if (chain.bytes >= features.header) {
    gather(chain, 0, reinterpret_cast<u8 *>(&offload), sizeof offload);
    gather(chain, features.header, to, kept);
  }
  offload.flags &= kNeedsChecksum;
  if (!features.guest_offloads_checksum || !(offload.flags || offload.gso_type)) offload = {};
  batch.commit(kept, offload).oversize = length > kMaxFrame;
  return true;
}

template <class Ring>
NetRing::Health receive_from(Ring &ring, const GuestMemory &memory, const NetFeatures &features, FrameBatch &batch,
                             Chain &chain) {
  constexpr unsigned kAhead = 4;
  NetRing::Health health = NetRing::Health::Good;
  while (!batch.full()) {
    const auto mark = ring.mark();
    const Next got = ring.next(memory, false, chain);
    if (got == Next::Broken) health = NetRing::Health::Broken;
    if (got != Next::Got) break;
    ring.prefetch(memory, kAhead);
    if (!take_frame(chain, features, batch)) {
      ring.rewind(mark);
      break;
    }
    ring.complete(chain, 0);
  }
  ring.publish();
  return health;
}

// The way of nearly every frame: untouched, into one buffer.
bool put_simply(const Egress &e, const NetFeatures &features, const Chain &chain) {
  if (chain.pieces.size() != 1 || chain.bytes < features.header + wire_length(*e.frame, e.edit)) return false;
  u8 *to = chain.pieces[0].data();
  const WireHeader header{.offload = wire_offload(*e.frame, e.edit)};
  std::memcpy(to, &header, 10);
  if (features.header == 12) std::memcpy(to + 10, &header.buffers, 2);
  copy_wire(*e.frame, e.edit, to + features.header);
  return true;
}

void put_merged(const Egress &e, const NetFeatures &features, std::span<const Chain> chains) {
  const WireHeader header{.offload = wire_offload(*e.frame, e.edit), .buffers = static_cast<u16>(chains.size())};
  WirePieces pieces;
  wire_pieces(*e.frame, e.edit, pieces);
  Scatter scatter(chains);
  scatter.put({reinterpret_cast<const u8 *>(&header), features.header});
  for (const auto &p : pieces.piece) scatter.put(p);
}

template <class Ring>
NetRing::Health transmit_to(Ring &ring, const GuestMemory &memory, const NetFeatures &features,
                            std::span<Egress> frames, std::vector<Chain> &chains) {
  constexpr unsigned kMaxMerged = 64, kAhead = 4;
  NetRing::Health health = NetRing::Health::Good;
  if (chains.size() < kMaxMerged) chains.resize(kMaxMerged);
  for (Egress &e : frames) {
    const u32 need = features.header + wire_length(*e.frame, e.edit);
    const auto mark = ring.mark();
    u32 room = 0;
    unsigned used = 0;
    Next got = Next::Got;
    while (room < need && used < (features.mergeable ? kMaxMerged : 1)) {
      got = ring.next(memory, true, chains[used]);
      if (got != Next::Got) break;
      room += chains[used++].bytes;
    }
    if (room < need || got != Next::Got) {
      ring.rewind(mark);
      if (got == Next::Broken) health = NetRing::Health::Broken;
      e.outcome = got == Next::Empty    ? DropReason::QueueFull
                  : got == Next::Broken ? DropReason::DeviceError
                                        : DropReason::BufferTooSmall;
      if (health == NetRing::Health::Broken) break;
      continue;
    }
    ring.prefetch(memory, kAhead);
    if (used > 1 || !put_simply(e, features, chains[0])) put_merged(e, features, {chains.data(), used});
    u32 left = need;
    for (unsigned i = 0; i < used; i++) {
      const u32 here = std::min(left, chains[i].bytes);
      ring.complete(chains[i], here);
      left -= here;
    }
  }
  ring.publish();
  return health;
}

} // namespace

bool NetRing::attach_split(const GuestMemory &memory, const RingSetup &setup) {
  return ring_.emplace<SplitRing>().attach(memory, setup);
}

bool NetRing::attach_packed(const GuestMemory &memory, const RingSetup &setup, u32 base) {
  return ring_.emplace<PackedRing>().attach(memory, setup, base);
}

NetRing::Health NetRing::receive(const GuestMemory &memory, const NetFeatures &features, FrameBatch &batch) {
  return std::visit([&](auto &r) { return receive_from(r, memory, features, batch, chain_); }, ring_);
}

NetRing::Health NetRing::transmit(const GuestMemory &memory, const NetFeatures &features, std::span<Egress> frames) {
  return std::visit([&](auto &r) { return transmit_to(r, memory, features, frames, merged_); }, ring_);
}

bool NetRing::wants_call() {
  return std::visit([](auto &r) { return r.wants_call(); }, ring_);
}
void NetRing::want_kicks(bool wanted) {
  std::visit([&](auto &r) { r.want_kicks(wanted); }, ring_);
}
bool NetRing::has_available() const {
  return std::visit([](const auto &r) { return r.has_available(); }, ring_);
}
u32 NetRing::base() const {
  return std::visit([](const auto &r) { return r.base(); }, ring_);
}

} // namespace abyme::net
