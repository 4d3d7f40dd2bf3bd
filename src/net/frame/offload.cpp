#include "net/frame/offload.hpp"
#include <algorithm>
#include <optional>

namespace abyme::net {
namespace {

constexpr u16 kIpv4 = 0x0800, kIpv6 = 0x86dd;
constexpr u8 kTcp = 6;
constexpr u32 kMinSegment = 48; // less payload a segment than any TCP uses only multiplies frames

struct TcpLayout {
  u32 ip, tcp, payload; // offsets
  bool v6;
};

std::optional<TcpLayout> tcp_layout(const Frame &f) {
  u32 at = 12;
  while (at + 2 <= f.length && is_tpid(load_be16(f.data + at))) at += kTagBytes;
  if (at + 2 + 20 > f.length) return std::nullopt;
  const u16 type = load_be16(f.data + at);
  TcpLayout l{.ip = at + 2, .tcp = 0, .payload = 0, .v6 = type == kIpv6};
  const u8 *ip = f.data + l.ip;
  if (type == kIpv4) {
    if (ip[0] >> 4 != 4 || ip[9] != kTcp) return std::nullopt;
    l.tcp = l.ip + (ip[0] & 15) * 4u;
    if (l.tcp < l.ip + 20) return std::nullopt;
  } else if (type == kIpv6) { // extension headers before TCP are left to checksum_start
    if (f.length < l.ip + 40 || ip[0] >> 4 != 6) return std::nullopt;
    l.tcp = f.offload.checksum_start;
    if (l.tcp < l.ip + 40) return std::nullopt;
  } else {
    return std::nullopt;
  }
  if (l.tcp + 20 > f.length || l.tcp != f.offload.checksum_start) return std::nullopt;
  l.payload = l.tcp + (f.data[l.tcp + 12] >> 4) * 4u;
  if (l.payload < l.tcp + 20 || l.payload > f.length) return std::nullopt;
  return l;
}

void finish_ip(u8 *frame, const TcpLayout &l, u32 length, u16 index) {
  u8 *ip = frame + l.ip;
  if (l.v6) {
    store_be16(ip + 4, static_cast<u16>(length - l.ip - 40));
    return;
  }
  store_be16(ip + 2, static_cast<u16>(length - l.ip));
  store_be16(ip + 4, static_cast<u16>(load_be16(ip + 4) + index)); // identification
  store_be16(ip + 10, 0);
  store_be16(ip + 10, checksum_fold(checksum_add(0, {ip, l.tcp - l.ip})));
}

void finish_tcp(u8 *frame, const TcpLayout &l, u32 length) {
  u8 *tcp = frame + l.tcp;
  const std::span<const u8> addresses =
      l.v6 ? std::span<const u8>(frame + l.ip + 8, 32) : std::span<const u8>(frame + l.ip + 12, 8);
  store_be16(tcp + 16, 0);
  u64 sum = checksum_add(kTcp + (length - l.tcp), addresses);
  sum = checksum_add(sum, {tcp, length - l.tcp});
  store_be16(tcp + 16, checksum_fold(sum));
}

} // namespace

u64 checksum_add(u64 sum, std::span<const u8> bytes) {
  const u8 *p = bytes.data();
  std::size_t n = bytes.size();
  u64 words = 0; // little-endian 32-bit words add up the same, swapped at the end (RFC 1071 §2(B))
  for (; n >= 4; n -= 4, p += 4) {
    u32 w;
    std::memcpy(&w, p, 4);
    words += w;
  }
  if (n) {
    u8 last[4] = {};
    std::memcpy(last, p, n);
    u32 w;
    std::memcpy(&w, last, 4);
    words += w;
  }
  while (words >> 16) words = (words & 0xffff) + (words >> 16);
  return sum + static_cast<u16>(__builtin_bswap16(static_cast<u16>(words)));
}

u16 checksum_fold(u64 sum) {
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<u16>(~sum);
}

bool plausible(const Frame &f) {
  const Offload &o = f.offload;
  const bool checksum = o.flags & kNeedsChecksum;
  if (checksum && (o.checksum_start < kEthernetHeader || u32{o.checksum_start} + o.checksum_offset + 2 > f.length))
    return false;
  if (o.gso_type == kGsoNone) return true;
  const u8 type = o.gso_type & static_cast<u8>(~kGsoEcn);
  if (!checksum || o.gso_size < kMinSegment || (type != kGsoTcp4 && type != kGsoTcp6)) return false;
  const auto layout = tcp_layout(f);
  return layout && layout->v6 == (type == kGsoTcp6) && o.checksum_offset == 16;
}

void complete_checksum(Frame &f) {
  const u32 start = f.offload.checksum_start, field = start + f.offload.checksum_offset;
  u16 sum = checksum_fold(checksum_add(0, f.bytes().subspan(start)));
  if (sum == 0 && f.offload.checksum_offset == 6) sum = 0xffff; // UDP: zero means none (RFC 768)
  store_be16(f.data + field, sum);
  f.offload = {};
}

void segment(const Frame &f, FrameBatch &scratch, const std::function<void(std::span<Frame>)> &sink) {
  constexpr u8 kFin = 0x01, kPush = 0x08, kCwr = 0x80;
  const auto layout = tcp_layout(f);
  if (!layout) return;
  const TcpLayout &l = *layout;
  const u32 sequence = load_be32(f.data + l.tcp + 4);
  u16 index = 0;
  scratch.clear();
  for (u32 at = l.payload; at < f.length || index == 0; at += f.offload.gso_size, index++) {
    const u32 piece = std::min<u32>(f.offload.gso_size, f.length - at), length = l.payload + piece;
    u8 *to = scratch.full() ? nullptr : scratch.reserve(length);
    if (!to) {
      sink(scratch.frames());
      scratch.clear();
      to = scratch.reserve(length);
    }
    std::memcpy(to, f.data, l.payload);
    std::memcpy(to + l.payload, f.data + at, piece);
    store_be32(to + l.tcp + 4, sequence + (at - l.payload));
    u8 &flags = to[l.tcp + 13];
    if (at + piece < f.length) flags &= static_cast<u8>(~(kFin | kPush));
    if (index) flags &= static_cast<u8>(~kCwr);
    finish_ip(to, l, length, index);
    finish_tcp(to, l, length);
    Frame &made = scratch.commit(length);
    made.vlan = f.vlan;
    made.tag_bytes = f.tag_bytes;
    made.inner_tag = f.inner_tag;
  }
  sink(scratch.frames());
}

void finish_offloads(const Frame &frame, FrameBatch &scratch, const std::function<void(std::span<Frame>)> &sink) {
  if (frame.offload.gso_type != kGsoNone) {
    segment(frame, scratch, sink);
    return;
  }
  scratch.clear();
  std::memcpy(scratch.reserve(frame.length), frame.data, frame.length);
  Frame &made = scratch.commit(frame.length, frame.offload);
  made.vlan = frame.vlan;
  made.tag_bytes = frame.tag_bytes;
  made.inner_tag = frame.inner_tag;
  complete_checksum(made);
  sink(scratch.frames());
}

} // namespace abyme::net
