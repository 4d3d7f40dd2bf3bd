#pragma once
#include "net/frame/frame.hpp"
#include <functional>

namespace abyme::net {

// What a receiver can finish by itself.
struct OffloadSupport {
  bool checksum = false, tso4 = false, tso6 = false;
};

// Whether a frame's offload request fits its bytes: fields within the frame, a known segmentation type, headers of that
// type where they must be. Everything below relies on it.
[[nodiscard]] bool plausible(const Frame &frame);

// Whether the receiver can take the frame as it is.
[[nodiscard]] inline bool supported(const Offload &o, OffloadSupport s) {
  if (o.gso_type == kGsoNone) return !(o.flags & kNeedsChecksum) || s.checksum;
  return s.checksum && ((o.gso_type & ~kGsoEcn) == kGsoTcp4 ? s.tso4 : s.tso6);
}

// Computes the checksum that was left to us (virtio 1.2 §5.1.6.2), in place.
void complete_checksum(Frame &frame);

// Cuts a frame with TCP segmentation offload into segments with complete headers and checksums; `sink` gets them by the
// batch.
void segment(const Frame &frame, FrameBatch &scratch, const std::function<void(std::span<Frame>)> &sink);

// The frame with its offloads done, as one frame or several.
void finish_offloads(const Frame &frame, FrameBatch &scratch, const std::function<void(std::span<Frame>)> &sink);

// The Internet checksum's running sum (RFC 1071) of bytes, in host order, not folded.
[[nodiscard]] u64 checksum_add(u64 sum, std::span<const u8> bytes);
[[nodiscard]] u16 checksum_fold(u64 sum);

} // namespace abyme::net
