#include "net/vhost/message.hpp"
#include <cerrno>
#include <sys/socket.h>

namespace abyme::net {
namespace {

constexpr std::size_t kHeader = 12;

void keep_descriptors(const msghdr &header, std::vector<Fd> &fds) {
  for (auto *c = CMSG_FIRSTHDR(&header); c; c = CMSG_NXTHDR(const_cast<msghdr *>(&header), c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; i++) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
      fds.emplace_back(fd);
    }
  }
}

} // namespace

Result<bool> VhostReader::receive(int socket, u8 *to, std::size_t wanted) {
  alignas(cmsghdr) char control[CMSG_SPACE(kMaxFds * sizeof(int))];
  iovec io{to, wanted};
  msghdr header{};
  header.msg_iov = &io;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  const ssize_t n = recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (n < 0) {
    if (errno == EAGAIN || errno == EINTR) return false;
    closed_ = true;
    return false;
  }
  keep_descriptors(header, fds_);
  if (header.msg_flags & MSG_CTRUNC || fds_.size() > kMaxFds)
    return fail("a vhost-user message came with more than {} descriptors", kMaxFds);
  closed_ = n == 0;
  bytes_.resize(bytes_.size() - wanted + static_cast<std::size_t>(n));
  return n > 0;
}

Result<VhostReader::Step> VhostReader::read(int socket) {
  while (true) {
    std::size_t target = kHeader;
    if (bytes_.size() >= kHeader) {
      u32 header[3];
      std::memcpy(header, bytes_.data(), kHeader);
      if ((header[1] & 3) != VhostMessage::kVersion)
        return fail("vhost-user version {} in a message; only 1 exists", header[1] & 3);
      if (header[2] > kMaxPayload)
        return fail("a vhost-user message of {} bytes; at most {} make sense", header[2], kMaxPayload);
      target = kHeader + header[2];
      if (bytes_.size() == target) {
        VhostMessage m{.request = VhostRequest{header[0]},
                       .flags = header[1],
                       .payload = {bytes_.begin() + kHeader, bytes_.end()},
                       .fds = std::move(fds_)};
        bytes_.clear();
        fds_.clear();
        return Step{.message = std::move(m)};
      }
    }
    const std::size_t have = bytes_.size();
    bytes_.resize(target);
    const auto got = receive(socket, bytes_.data() + have, target - have);
    if (!got) return std::unexpected(got.error());
    if (!*got) {
      bytes_.resize(have);
      return Step{.message = {}, .closed = closed_};
    }
  }
}

Result<void> send_message(int socket, const VhostMessage &m) {
  u32 header[3] = {static_cast<u32>(m.request), m.flags, static_cast<u32>(m.payload.size())};
  iovec io[2] = {{header, sizeof header}, {const_cast<u8 *>(m.payload.data()), m.payload.size()}};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr msg{};
  msg.msg_iov = io;
  msg.msg_iovlen = 2;
  if (!m.fds.empty()) {
    msg.msg_control = control;
    msg.msg_controllen = sizeof control;
    auto *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    const int fd = m.fds[0].get();
    std::memcpy(CMSG_DATA(c), &fd, sizeof fd);
  }
  // A front-end that does not read its replies is not waited for: they are small, and its socket's buffer holds many.
  const ssize_t n = sendmsg(socket, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n != static_cast<ssize_t>(sizeof header + m.payload.size())) return fail("the front-end does not take replies");
  return {};
}

} // namespace abyme::net
