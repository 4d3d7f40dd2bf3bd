#pragma once
#include "net/frame/bytes.hpp"
#include "net/frame/mac.hpp"
#include "net/frame/vlan.hpp"
#include <memory>
#include <span>

namespace abyme::net {

constexpr u32 kEthernetHeader = 14;
constexpr u32 kMaxFrame = 65535 + kEthernetHeader + 2 * kTagBytes; // a segmentation-offload frame with two tags

// What is left to do to a frame's transport header; the layout and values of struct virtio_net_hdr (virtio 1.2 §5.1.6),
// without num_buffers.
struct Offload {
  u8 flags = 0;
  u8 gso_type = 0;
  u16 header_length = 0;
  u16 gso_size = 0;
  u16 checksum_start = 0;
  u16 checksum_offset = 0;
  bool operator==(const Offload &) const = default;
};
static_assert(sizeof(Offload) == 10);

constexpr u8 kNeedsChecksum = 1;
constexpr u8 kDataValid = 2;
constexpr u8 kGsoNone = 0;
constexpr u8 kGsoTcp4 = 1;
constexpr u8 kGsoTcp6 = 4;
constexpr u8 kGsoEcn = 0x80;

// A frame under way. The bytes are the switch's own copy: what was checked is what is sent, whatever the sender's guest
// writes meanwhile.
struct Frame {
  u8 *data = nullptr; // destination address first; as received, tags included
  u32 length = 0;
  Offload offload = {};
  // Written by classification, valid from then on.
  VlanId vlan = {};
  u8 tag_bytes = 0;       // 4 when an outer tag stands for `vlan` and goes when the frame leaves untagged
  bool oversize = false;  // it was longer than kMaxFrame and is cut
  bool inner_tag = false; // another tag follows: it must never become the outermost one

  [[nodiscard]] MacAddress destination() const { return MacAddress::load(data); }
  [[nodiscard]] MacAddress source() const { return MacAddress::load(data + 6); }
  [[nodiscard]] std::span<const u8> bytes() const { return {data, length}; }
};

// The frames of one burst and their bytes, one behind the other.
class FrameBatch {
public:
  static constexpr unsigned kFrames = 64;

  // Room for a frame of `bytes`; nullptr when the batch is full.
  [[nodiscard]] u8 *reserve(u32 bytes) {
    if (count_ == kFrames || used_ + bytes > kArena) return nullptr;
    return arena_.get() + used_;
  }
  // Adds the frame whose bytes stand where reserve() pointed.
  Frame &commit(u32 length, const Offload &offload = {}) {
    Frame &f = frames_[count_++];
    f = Frame{.data = arena_.get() + used_, .length = length, .offload = offload};
    used_ = (used_ + length + kSlack + kAlign - 1) & ~(kAlign - 1);
    return f;
  }
  [[nodiscard]] bool add(std::span<const u8> bytes, const Offload &offload = {}) {
    u8 *room = reserve(static_cast<u32>(bytes.size()));
    if (!room) return false;
    if (!bytes.empty()) std::memcpy(room, bytes.data(), bytes.size());
    commit(static_cast<u32>(bytes.size()), offload);
    return true;
  }
  void clear() { count_ = used_ = 0; }
  [[nodiscard]] unsigned size() const { return count_; }
  [[nodiscard]] bool empty() const { return count_ == 0; }
  [[nodiscard]] bool full() const { return count_ == kFrames || used_ + kMaxFrame > kArena; }
  [[nodiscard]] std::span<Frame> frames() { return {frames_.get(), count_}; }

private:
  static constexpr u32 kAlign = 64;
  static constexpr u32 kSlack = 16; // parsers may load a little behind a short frame
  static constexpr u32 kArena = kFrames * 2048 + 2 * kMaxFrame;
  std::unique_ptr<u8[]> arena_ = std::make_unique<u8[]>(kArena + 64);
  std::unique_ptr<Frame[]> frames_ = std::make_unique<Frame[]>(kFrames);
  u32 used_ = 0;
  unsigned count_ = 0;
};

// What happens to the outer tag where a frame leaves.
enum class TagEdit : u8 { Keep, Push, Pop };

// The bytes of a frame as they leave: at most three pieces.
struct WirePieces {
  std::span<const u8> piece[3];
  u32 length = 0;
  u8 tag[kTagBytes] = {};
};

[[nodiscard]] inline u32 wire_length(const Frame &f, TagEdit edit) {
  return edit == TagEdit::Keep ? f.length : edit == TagEdit::Push ? f.length + kTagBytes : f.length - kTagBytes;
}

// Fills `out`, which the pieces may point into.
inline void wire_pieces(const Frame &f, TagEdit edit, WirePieces &out) {
  out.length = wire_length(f, edit);
  if (edit == TagEdit::Keep) {
    out.piece[0] = f.bytes();
    out.piece[1] = out.piece[2] = {};
    return;
  }
  out.piece[0] = {f.data, 12};
  out.piece[2] = f.bytes().subspan(edit == TagEdit::Pop ? 12 + kTagBytes : 12);
  out.piece[1] = {};
  if (edit == TagEdit::Pop) return;
  store_be16(out.tag, kTpidCustomer);
  store_be16(out.tag + 2, f.vlan.value);
  out.piece[1] = out.tag;
}

// Copies a frame as it leaves; `to` has room for wire_length().
inline void copy_wire(const Frame &f, TagEdit edit, u8 *to) {
  if (edit == TagEdit::Keep) {
    std::memcpy(to, f.data, f.length);
    return;
  }
  WirePieces pieces;
  wire_pieces(f, edit, pieces);
  for (const auto &p : pieces.piece) {
    if (!p.empty()) std::memcpy(to, p.data(), p.size());
    to += p.size();
  }
}

// The offload as it holds once the tag is edited: the checksum moves with the bytes behind it.
[[nodiscard]] inline Offload wire_offload(const Frame &f, TagEdit edit) {
  Offload o = f.offload;
  const int shift = edit == TagEdit::Keep ? 0 : edit == TagEdit::Push ? 4 : -4;
  if (o.flags & kNeedsChecksum) o.checksum_start = static_cast<u16>(o.checksum_start + shift);
  if (o.gso_type != kGsoNone && o.header_length) o.header_length = static_cast<u16>(o.header_length + shift);
  return o;
}

} // namespace abyme::net
