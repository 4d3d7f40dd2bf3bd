#pragma once
#include "devices/virtio/served_device.hpp"
#include <deque>
#include <functional>

namespace abyme::virtio {

struct ConsoleConfig {
  // What the guest wrote. On the device's thread, without locks: while it blocks, the guest's output waits.
  std::function<void(std::span<const u8>)> output;
  // receive() takes bytes again after it took fewer than it was given. On the device's thread, without locks.
  std::function<void()> input_room = [] {};
  u16 columns = 0, rows = 0; // 0: the size is not known yet; resize() tells
};

// A console with one port (virtio 1.2 §5.3).
class Console final : public ServedDevice {
public:
  explicit Console(ConsoleConfig config);
  ~Console() override { end_thread(); }

  // Input for the guest, from any thread. Takes as much as it has room for and returns how many bytes that was.
  [[nodiscard]] std::size_t receive(std::span<const u8> input);
  // The terminal's size changed. From any thread that does not hold the device lock.
  void resize(u16 columns, u16 rows);

  [[nodiscard]] DeviceId id() const override { return DeviceId::Console; }
  [[nodiscard]] u64 features() override { return kRingFeatures | kSize; }
  [[nodiscard]] std::span<const u16> queue_sizes() const override { return kQueues; }
  [[nodiscard]] u32 config_size() const override { return 4; } // struct virtio_console_config's cols and rows
  void read_config(u32 offset, std::span<u8> to) override;
  void write_config(u32, std::span<const u8>) override {} // read-only without EMERG_WRITE

  static constexpr std::size_t kInputRoom = 4096;
  // Input that waits for the driver, and how much of the request at the head of the transmit queue is out already.
  struct State {
    u64 sent = 0;
    u64 size = 0;
    u8 input[kInputRoom] = {};
    bool operator==(const State &) const = default;
  };
  [[nodiscard]] std::vector<u8> save() override;
  [[nodiscard]] Result<void> load(std::span<const u8> state) override;

private:
  static constexpr u64 kSize = 1; // virtio 1.2 §5.3.3
  static constexpr u16 kReceive = 0, kTransmit = 1;
  static constexpr u16 kQueues[2] = {128, 128};

  [[nodiscard]] std::expected<Served, QueueFault> serve(u16 index, Queue &queue) override;
  [[nodiscard]] std::expected<Served, QueueFault> serve_receive(Queue &queue);
  [[nodiscard]] std::expected<Served, QueueFault> serve_transmit(Queue &queue);
  void after_serve() override;
  void stopped() override { sent_ = 0; }

  std::function<void(std::span<const u8>)> output_;
  std::function<void()> input_room_;
  std::vector<u8> outgoing_; // the device's thread only: from serve() to after_serve()
  bool tell_room_ = false;   // likewise
  Chain chain_;              // under lock_; kept for its room
  u64 sent_ = 0;             // under lock_

  std::mutex input_lock_; // a leaf; guards what follows
  std::deque<u8> input_;
  bool refused_ = false; // receive() took fewer bytes than it was given
  u16 columns_, rows_;
};

} // namespace abyme::virtio
