#include "devices/virtio_rng/rng.hpp"
#include <algorithm>
#include <sys/random.h>

namespace abyme::virtio {
namespace {

constexpr u64 kMostBytes = 64_KiB; // of one request: a driver may get less than it asked for (virtio 1.2 §5.4.6.2)

// Returns the bytes got; getrandom gives fewer than asked when a signal comes.
u64 fill(const Buffer &buffer) {
  u64 done = 0;
  while (done < buffer.size) {
    const ssize_t got = getrandom(buffer.host + done, buffer.size - done, 0);
    if (got < 0 && errno != EINTR) break;
    if (got > 0) done += static_cast<u64>(got);
  }
  return done;
}

} // namespace

std::expected<Rng::Served, QueueFault> Rng::serve(u16, Queue &queue) {
  const auto popped = queue.pop(chain_);
  if (!popped) return std::unexpected(popped.error());
  if (!*popped) return Served::Nothing;
  u64 written = 0;
  for (const Buffer &b : slice(chain_.writable, 0, kMostBytes)) {
    const u64 got = fill(b);
    transport().memory().note_written(b.at, got);
    written += got;
    if (got != b.size) break;
  }
  if (written == 0) return std::unexpected(QueueFault::NoRoom); // virtio 1.2 §5.4.6.2: at least one byte
  queue.push(chain_.head, static_cast<u32>(written));
  return Served::Request;
}

Result<void> Rng::load(std::span<const u8> state) {
  if (state.empty()) return {};
  return fail("virtio-rng: its saved state has {} bytes; it keeps none", state.size());
}

} // namespace abyme::virtio
