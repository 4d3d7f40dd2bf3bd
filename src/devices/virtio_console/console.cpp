#include "devices/virtio_console/console.hpp"
#include "devices/virtio/state_bytes.hpp"
#include <algorithm>

namespace abyme::virtio {
namespace {

constexpr std::size_t kOutputPiece = 64_KiB;

} // namespace

Console::Console(ConsoleConfig config)
    : output_(std::move(config.output)), input_room_(std::move(config.input_room)), columns_(config.columns),
      rows_(config.rows) {}

std::size_t Console::receive(std::span<const u8> input) {
  std::size_t taken;
  {
    const std::lock_guard lock(input_lock_);
    taken = std::min(input.size(), kInputRoom - input_.size());
    input_.insert(input_.end(), input.begin(), input.begin() + static_cast<std::ptrdiff_t>(taken));
    refused_ = taken < input.size();
  }
  if (taken != 0) serve_later(kReceive);
  return taken;
}

void Console::resize(u16 columns, u16 rows) {
  {
    const std::lock_guard lock(input_lock_);
    columns_ = columns;
    rows_ = rows;
  }
  transport().notify_config();
}

void Console::read_config(u32 offset, std::span<u8> to) {
  const std::lock_guard lock(input_lock_);
  const u16 size[2] = {columns_, rows_};
  std::memcpy(to.data(), reinterpret_cast<const u8 *>(size) + offset, to.size());
}

std::expected<Console::Served, QueueFault> Console::serve(u16 index, Queue &queue) {
  return index == kReceive ? serve_receive(queue) : serve_transmit(queue);
}

std::expected<Console::Served, QueueFault> Console::serve_receive(Queue &queue) {
  const std::lock_guard lock(input_lock_);
  if (input_.empty()) return Served::Waiting;
  const auto popped = queue.pop(chain_);
  if (!popped) return std::unexpected(popped.error());
  if (!*popped) return Served::Nothing;
  const auto size = static_cast<std::ptrdiff_t>(std::min<u64>(input_.size(), chain_.writable_size()));
  if (size == 0) return std::unexpected(QueueFault::NoRoom);
  const std::vector<u8> bytes(input_.begin(), input_.begin() + size);
  input_.erase(input_.begin(), input_.begin() + size);
  queue.push(chain_.head, static_cast<u32>(copy_in(transport().memory(), chain_.writable, 0, bytes)));
  tell_room_ = std::exchange(refused_, false);
  return Served::Request;
}

// A long request goes out in pieces: it stays at the head of the queue until all of it is out.
std::expected<Console::Served, QueueFault> Console::serve_transmit(Queue &queue) {
  const auto popped = queue.pop(chain_);
  if (!popped) return std::unexpected(popped.error());
  if (!*popped) return Served::Nothing;
  outgoing_.resize(kOutputPiece);
  outgoing_.resize(copy_out(chain_.readable, sent_, outgoing_));
  sent_ += outgoing_.size();
  if (sent_ < chain_.readable_size()) {
    queue.unpop();
    return Served::Request;
  }
  sent_ = 0;
  queue.push(chain_.head, 0);
  return Served::Request;
}

void Console::after_serve() {
  if (!outgoing_.empty()) output_(outgoing_);
  outgoing_.clear();
  if (std::exchange(tell_room_, false)) input_room_();
}

std::vector<u8> Console::save() {
  const std::scoped_lock lock(lock_, input_lock_);
  State state{.sent = sent_, .size = input_.size()};
  std::ranges::copy(input_, state.input);
  return to_bytes(state);
}

Result<void> Console::load(std::span<const u8> bytes) {
  const auto state = from_bytes<State>("virtio-console", bytes);
  if (!state) return std::unexpected(state.error());
  if (state->size > kInputRoom)
    return fail("virtio-console: its saved state holds {} bytes of input; at most {} fit", state->size, kInputRoom);
  const std::scoped_lock lock(lock_, input_lock_);
  sent_ = state->sent;
  input_.assign(state->input, state->input + state->size);
  return {};
}

} // namespace abyme::virtio
