#include "net/control/stream.hpp"
#include <cerrno>
#include <sys/epoll.h>
#include <sys/socket.h>

namespace abyme::net {
namespace {
constexpr Nanoseconds kGather = 20'000'000; // small writes go out together
constexpr std::size_t kAtOnce = 64 << 10;
} // namespace

Stream::~Stream() {
  if (flush_timer_) loop_.cancel(flush_timer_);
  if (socket_) loop_.unwatch(socket_.get());
}

void Stream::start(std::function<void(std::string_view)> on_bytes) {
  on_bytes_ = std::move(on_bytes);
  // The watch keeps the stream: it ends when the connection does.
  loop_.watch(socket_.get(), EPOLLIN | EPOLLRDHUP, [self = shared_from_this()](u32 events) { self->ready(events); });
}

void Stream::write(std::span<const u8> bytes) {
  if (!socket_) return;
  out_.insert(out_.end(), bytes.begin(), bytes.end());
  if (unsent() >= kAtOnce) return flush();
  if (flush_timer_ || waiting_) return;
  flush_timer_ = loop_.at(loop_.clock().now() + kGather, [self = shared_from_this()] {
    self->flush_timer_ = 0;
    self->flush();
  });
}

void Stream::close_when_sent() {
  closing_ = true;
  flush();
}

void Stream::flush() {
  if (!socket_) return;
  while (unsent()) {
    const ssize_t n = send(socket_.get(), out_.data() + sent_, unsent(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) break;
    if (n <= 0) return close();
    sent_ += static_cast<std::size_t>(n);
  }
  if (sent_ == out_.size() || sent_ > (1u << 20)) {
    out_.erase(out_.begin(), out_.begin() + static_cast<long>(sent_));
    sent_ = 0;
  }
  if (!unsent() && closing_) return close();
  const bool wait = unsent() > 0;
  if (wait == waiting_) return;
  waiting_ = wait;
  loop_.watch(socket_.get(), (closing_ ? 0u : u32{EPOLLIN | EPOLLRDHUP}) | (wait ? u32{EPOLLOUT} : 0u),
              [self = shared_from_this()](u32 events) { self->ready(events); });
}

void Stream::ready(u32 events) {
  const auto self = shared_from_this();
  if (events & EPOLLOUT) flush();
  if (!socket_ || !(events & (EPOLLIN | EPOLLHUP | EPOLLRDHUP | EPOLLERR))) return;
  char buffer[4096];
  const ssize_t n = recv(socket_.get(), buffer, sizeof buffer, MSG_DONTWAIT);
  if (n > 0) return on_bytes_({buffer, static_cast<std::size_t>(n)});
  if (n < 0 && errno == EAGAIN) return;
  if (closing_ && unsent()) return; // it has said all, and still listens
  close();
}

void Stream::close() {
  const auto self = shared_from_this();
  if (!socket_) return;
  loop_.unwatch(socket_.get());
  socket_.reset();
  if (on_close_) std::exchange(on_close_, nullptr)();
}

} // namespace abyme::net
