#pragma once
#include "devices/virtio/queue.hpp"
#include <optional>
#include <span>
#include <string>

// What a virtio device is, apart from how the driver reaches it (virtio 1.2 §2). Names without a device's prefix are
// the specification's.
namespace abyme::virtio {

enum class DeviceId : u16 { Net = 1, Block = 2, Console = 3, Entropy = 4 }; // virtio 1.2 §5

// virtio 1.2 §6
constexpr u64 kRingIndirectDesc = 1ull << 28;
constexpr u64 kRingEventIdx = 1ull << 29;
constexpr u64 kVersion1 = 1ull << 32;
constexpr u64 kRingFeatures = kRingIndirectDesc | kRingEventIdx;

// One queue as DRIVER_OK found it.
struct StartedQueue {
  bool enabled = false;
  QueueSetup setup;
  QueuePosition position;
};

// The device's way back to its driver. Safe from any thread that does not hold the machine's device lock.
class Transport {
public:
  virtual ~Transport() = default;
  [[nodiscard]] virtual GuestMemory &memory() = 0;
  // Signalled when the driver kicks the queue; an eventfd, non-blocking.
  [[nodiscard]] virtual int kick_fd(u16 queue) = 0;
  // An eventfd that a back end in another process signals instead of notify_used(). The engine may take its signals for
  // itself (an irqfd); what it leaves readable the device passes on with notify_used().
  [[nodiscard]] virtual int call_fd(u16 queue) = 0;
  // `epoch` is what start() was given: a notification that lost the race with a reset is dropped.
  virtual void notify_used(u16 queue, u64 epoch) = 0;
  virtual void notify_config() = 0;
  // DEVICE_NEEDS_RESET (virtio 1.2 §2.1.2); the reason goes to the log.
  virtual void needs_reset(u64 epoch, const std::string &why) = 0;
};

// Every method is called with the machine's device lock held, on any thread. A device takes its own lock inside, and
// never calls its transport while it holds that: lock order is device lock → a device's own lock.
class Device {
public:
  virtual ~Device() = default;
  [[nodiscard]] virtual DeviceId id() const = 0;
  [[nodiscard]] virtual u64 features() = 0;                           // offered, kVersion1 apart
  [[nodiscard]] virtual std::span<const u16> queue_sizes() const = 0; // the maximum of each queue
  // The device-specific configuration, [0, config_size()); accesses lie inside it.
  [[nodiscard]] virtual u32 config_size() const = 0;
  virtual void read_config(u32 offset, std::span<u8> to) = 0;
  virtual void write_config(u32 offset, std::span<const u8> from) = 0;
  // Whether another process serves the queues and signals call_fd().
  [[nodiscard]] virtual bool served_outside() const = 0;
  // Once, before all else.
  [[nodiscard]] virtual Result<void> attach(Transport &transport) = 0;
  // DRIVER_OK: serve these queues from now on.
  virtual void start(u64 features, std::span<const StartedQueue> queues, u64 epoch) = 0;
  // Reset: after it returns the device touches no guest memory, and has forgotten what the driver configured. Harmless
  // when not started.
  virtual void stop() = 0;
  // Suspends (resumes) a started device so that its queues' positions, given in `positions`, hold still.
  virtual void pause(std::span<QueuePosition> positions) = 0;
  virtual void resume() = 0;
  // What the device itself keeps beyond the transport's registers, as bytes of its State struct. load() is called
  // before start().
  [[nodiscard]] virtual std::vector<u8> save() = 0;
  [[nodiscard]] virtual Result<void> load(std::span<const u8> state) = 0;
};

} // namespace abyme::virtio
