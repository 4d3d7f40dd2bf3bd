#include "devices/virtio/served_device.hpp"
#include <sys/eventfd.h>

namespace abyme::virtio {

ServedDevice::~ServedDevice() { end_thread(); }

void ServedDevice::end_thread() {
  if (!thread_.joinable()) return;
  loop_->stop();
  thread_.join();
  watches_.clear();
}

Result<void> ServedDevice::attach(Transport &transport) {
  transport_ = &transport;
  auto loop = EventLoop::create();
  if (!loop) return std::unexpected(loop.error());
  loop_ = std::move(*loop);
  for (u16 i = 0; i < queue_sizes().size(); ++i) {
    const int kick = transport.kick_fd(i);
    auto watch = loop_->watch(kick, EPOLLIN, [this, i, kick](u32) {
      eventfd_t count;
      if (eventfd_read(kick, &count) == 0) drain(i);
    });
    if (!watch) return std::unexpected(watch.error());
    watches_.push_back(std::move(*watch));
  }
  thread_ = std::jthread([this] { loop_->run(); });
  return {};
}

void ServedDevice::start(u64 features, std::span<const StartedQueue> queues, u64 epoch) {
  const std::lock_guard lock(lock_);
  features_ = features;
  epoch_ = epoch;
  const Queue::Features ring{.event_idx = (features & kRingEventIdx) != 0,
                             .indirect = (features & kRingIndirectDesc) != 0};
  queues_.clear();
  for (const StartedQueue &q : queues) {
    auto &queue = queues_.emplace_back();
    if (!q.enabled) continue;
    if (auto opened = Queue::open(transport_->memory(), q.setup, ring, q.position)) queue = *opened;
  }
  for (u16 i = 0; i < queues_.size(); ++i) serve_later(i); // what was made available before DRIVER_OK
}

void ServedDevice::stop() {
  const std::lock_guard lock(lock_);
  queues_.clear();
  features_ = 0;
  stopped();
}

void ServedDevice::pause(std::span<QueuePosition> positions) {
  const std::lock_guard lock(lock_);
  paused_ = true;
  for (std::size_t i = 0; i < queues_.size(); ++i)
    if (queues_[i]) positions[i] = queues_[i]->position();
}

void ServedDevice::resume() {
  const std::lock_guard lock(lock_);
  paused_ = false;
  for (u16 i = 0; i < queues_.size(); ++i) serve_later(i);
}

void ServedDevice::serve_later(u16 index) {
  if (transport_) eventfd_write(transport_->kick_fd(index), 1);
}

ServedDevice::Outcome ServedDevice::step(u16 index) {
  const std::lock_guard lock(lock_);
  if (paused_ || index >= queues_.size() || !queues_[index]) return {};
  Queue &queue = *queues_[index];
  queue.disable_kicks();
  const auto served = serve(index, queue);
  if (!served) {
    queues_[index].reset(); // a broken queue rests until the reset that the driver must do
    return {.fault = served.error(), .epoch = epoch_};
  }
  Outcome outcome{.epoch = epoch_};
  outcome.more = *served == Served::Request || (*served == Served::Nothing && queue.enable_kicks());
  outcome.notify = *served == Served::Request && queue.take_notification();
  return outcome;
}

// The lock is free between two requests, so that a reset need not wait for more than one.
void ServedDevice::drain(u16 index) {
  for (Outcome outcome{.more = true}; outcome.more;) {
    outcome = step(index);
    after_serve();
    if (outcome.fault) transport_->needs_reset(outcome.epoch, fmt::format("queue {}: {}", index, name(*outcome.fault)));
    if (outcome.notify) transport_->notify_used(index, outcome.epoch);
  }
}

} // namespace abyme::virtio
