#include "devices/vhost_user_net/backend.hpp"
#include "devices/virtio/device.hpp"
#include <array>
#include <cerrno>
#include <cstring>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <vector>

namespace abyme::virtio {

enum class VhostUserBackend::Request : u32 {
  GetFeatures = 1,
  SetFeatures = 2,
  SetOwner = 3,
  SetMemTable = 5,
  SetVringNum = 8,
  SetVringAddr = 9,
  SetVringBase = 10,
  GetVringBase = 11,
  SetVringKick = 12,
  SetVringCall = 13,
  GetProtocolFeatures = 15,
  SetProtocolFeatures = 16,
  GetQueueNum = 17,
  SetVringEnable = 18,
};

namespace {

constexpr u64 kProtocolFeatures = 1ull << 30; // VHOST_USER_F_PROTOCOL_FEATURES, among the virtio features
constexpr u64 kProtocolMq = 1ull << 0, kProtocolReplyAck = 1ull << 3;
constexpr u32 kVersion = 1, kReply = 1u << 2, kNeedReply = 1u << 3; // of the header's flags

struct Header {
  u32 request;
  u32 flags;
  u32 size; // of the payload
};
struct VringState {
  u32 index;
  u32 number;
};
struct VringAddr { // addresses in the front-end's own address space
  u32 index;
  u32 flags;
  u64 descriptors;
  u64 used;
  u64 available;
  u64 log;
};
struct MemoryRegion {
  u64 guest_address;
  u64 size;
  u64 user_address;
  u64 mmap_offset;
};
struct MemoryTable {
  u32 count;
  u32 padding;
  std::array<MemoryRegion, 2> regions;
};

template <class T> std::span<const u8> bytes_of(const T &value) {
  return {reinterpret_cast<const u8 *>(&value), sizeof value};
}

} // namespace

std::unexpected<Error> VhostUserBackend::broken(Request request, std::string_view what) const {
  return fail("vhost-user {}: message {}: {}", path_, static_cast<u32>(request), what);
}

Result<std::unique_ptr<VhostUserBackend>> VhostUserBackend::connect(const std::string &path) {
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  if (path.empty() || path.size() >= sizeof address.sun_path)
    return fail("vhost-user '{}': a socket's path has 1 to {} bytes", path, sizeof address.sun_path - 1);
  std::memcpy(address.sun_path, path.data(), path.size());
  // The wait for a place in the listener's backlog is bounded by the send timeout too.
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval patience{.tv_sec = kPatience, .tv_usec = 0};
  if (!socket || setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0 ||
      setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) != 0)
    return fail_errno(fmt::format("vhost-user {}: making a socket", path));
  if (::connect(socket.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address) != 0)
    return fail_errno(fmt::format("vhost-user {}: connecting to the back end", path));
  auto backend = std::unique_ptr<VhostUserBackend>(new VhostUserBackend(std::move(socket), path));
  if (const auto negotiated = backend->negotiate(); !negotiated) return std::unexpected(negotiated.error());
  return backend;
}

Result<void> VhostUserBackend::negotiate() {
  const auto features = get(Request::GetFeatures);
  if (!features) return std::unexpected(features.error());
  features_ = *features;
  if (!(features_ & kVersion1))
    return fail("vhost-user {}: the back end does not know virtio 1 (feature 32), which this card needs", path_);
  if (features_ & kProtocolFeatures) {
    const auto offered = get(Request::GetProtocolFeatures);
    if (!offered) return std::unexpected(offered.error());
    const u64 wanted = *offered & (kProtocolMq | kProtocolReplyAck);
    if (const auto sent = set_u64(Request::SetProtocolFeatures, wanted); !sent) return sent;
    protocol_features_ = wanted;
  }
  if (protocol_features_ & kProtocolMq) {
    const auto pairs = get(Request::GetQueueNum);
    if (!pairs) return std::unexpected(pairs.error());
    queue_pairs_ = *pairs;
  }
  return set(Request::SetOwner, {});
}

Result<void> VhostUserBackend::send(Request request, std::span<const u8> payload, std::span<const int> fds,
                                    bool need_reply) {
  Header header{static_cast<u32>(request), kVersion | (need_reply ? kNeedReply : 0), static_cast<u32>(payload.size())};
  iovec parts[] = {{&header, sizeof header}, {const_cast<u8 *>(payload.data()), payload.size()}};
  alignas(cmsghdr) std::array<u8, CMSG_SPACE(sizeof(int) * 2)> control{};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = payload.empty() ? 1 : 2;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr *rights = CMSG_FIRSTHDR(&message);
    *rights = {.cmsg_len = CMSG_LEN(fds.size_bytes()), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    std::memcpy(CMSG_DATA(rights), fds.data(), fds.size_bytes());
  }
  ssize_t sent;
  do sent = sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  if (sent < 0) return broken(request, std::strerror(errno));
  if (static_cast<std::size_t>(sent) != sizeof header + payload.size())
    return broken(request, "it went out in part only");
  return {};
}

Result<void> VhostUserBackend::read_exactly(std::span<u8> to) {
  while (!to.empty()) {
    const ssize_t got = recv(socket_.get(), to.data(), to.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got == 0) return fail("vhost-user {}: the back end closed the connection", path_);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
      return fail("vhost-user {}: the back end gave no answer in {} s", path_, kPatience);
    if (got < 0) return fail_errno(fmt::format("vhost-user {}: reading an answer", path_));
    to = to.subspan(static_cast<std::size_t>(got));
  }
  return {};
}

Result<void> VhostUserBackend::receive(Request request, std::span<u8> payload) {
  Header header;
  if (const auto got = read_exactly({reinterpret_cast<u8 *>(&header), sizeof header}); !got) return got;
  if (header.request != static_cast<u32>(request) || !(header.flags & kReply) || (header.flags & 3) != kVersion)
    return broken(request,
                  fmt::format("the answer is no answer to it (message {}, flags {:#x})", header.request, header.flags));
  if (header.size != payload.size())
    return broken(request, fmt::format("the answer has {} bytes, not {}", header.size, payload.size()));
  return read_exactly(payload);
}

Result<u64> VhostUserBackend::get(Request request) {
  u64 value = 0;
  if (const auto sent = send(request, {}, {}, false); !sent) return std::unexpected(sent.error());
  if (const auto got = receive(request, {reinterpret_cast<u8 *>(&value), sizeof value}); !got)
    return std::unexpected(got.error());
  return value;
}

Result<void> VhostUserBackend::set(Request request, std::span<const u8> payload, std::span<const int> fds) {
  const bool acknowledged = protocol_features_ & kProtocolReplyAck;
  if (const auto sent = send(request, payload, fds, acknowledged); !sent || !acknowledged) return sent;
  u64 result = 0;
  if (const auto got = receive(request, {reinterpret_cast<u8 *>(&result), sizeof result}); !got) return got;
  return result == 0 ? Result<void>() : broken(request, "the back end refused it");
}

Result<void> VhostUserBackend::set_u64(Request request, u64 value, std::span<const int> fds) {
  return set(request, bytes_of(value), fds);
}

// Each region with its own descriptor of the one memfd.
Result<void> VhostUserBackend::set_memory(GuestMemory &memory) {
  MemoryTable table{};
  std::array<int, 2> fds{memory.fd(), memory.fd()};
  for (const GuestMemory::Region &r : memory.regions())
    table.regions[table.count++] = {r.start.value, r.size, reinterpret_cast<u64>(r.host), r.fd_offset};
  const std::size_t size = 8 + table.count * sizeof(MemoryRegion);
  return set(Request::SetMemTable, bytes_of(table).first(size), std::span(fds).first(table.count));
}

Result<void> VhostUserBackend::set_ring(GuestMemory &memory, const VhostRing &ring) {
  const auto address = [&](Gpa at) { return reinterpret_cast<u64>(memory.host(at, 1)); };
  const VringState number{ring.index, ring.setup.size}, base{ring.index, ring.next_available};
  const VringAddr areas{.index = ring.index,
                        .flags = 0,
                        .descriptors = address(ring.setup.descriptors),
                        .used = address(ring.setup.used),
                        .available = address(ring.setup.available),
                        .log = 0};
  auto done = set(Request::SetVringNum, bytes_of(number));
  if (done) done = set(Request::SetVringBase, bytes_of(base));
  if (done) done = set(Request::SetVringAddr, bytes_of(areas));
  if (done) done = set_u64(Request::SetVringCall, ring.index, {&ring.call_fd, 1});
  if (done) done = set_u64(Request::SetVringKick, ring.index, {&ring.kick_fd, 1});
  return done;
}

Result<void> VhostUserBackend::start(GuestMemory &memory, u64 features, std::span<const VhostRing> rings) {
  auto done = set_u64(Request::SetFeatures, (features & features_) | (features_ & kProtocolFeatures));
  if (done) done = set_memory(memory);
  for (const VhostRing &ring : rings)
    if (done) done = set_ring(memory, ring);
  return done;
}

// Without protocol features a ring is enabled by its kick descriptor.
Result<void> VhostUserBackend::enable(u16 ring, bool on) {
  if (!(features_ & kProtocolFeatures)) return {};
  return set(Request::SetVringEnable, bytes_of(VringState{ring, on}));
}

Result<u16> VhostUserBackend::stop(u16 ring) {
  const VringState which{ring, 0};
  VringState answer{};
  if (const auto sent = send(Request::GetVringBase, bytes_of(which), {}, false); !sent)
    return std::unexpected(sent.error());
  if (const auto got = receive(Request::GetVringBase, {reinterpret_cast<u8 *>(&answer), sizeof answer}); !got)
    return std::unexpected(got.error());
  return static_cast<u16>(answer.number);
}

void VhostUserBackend::shut_down() { shutdown(socket_.get(), SHUT_RDWR); }

} // namespace abyme::virtio
