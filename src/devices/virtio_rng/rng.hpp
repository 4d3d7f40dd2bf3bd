#pragma once
#include "devices/virtio/served_device.hpp"

namespace abyme::virtio {

// An entropy source (virtio 1.2 §5.4): fills buffers from the host's getrandom. It has no configuration and no state.
class Rng final : public ServedDevice {
public:
  ~Rng() override { end_thread(); }

  [[nodiscard]] DeviceId id() const override { return DeviceId::Entropy; }
  [[nodiscard]] u64 features() override { return kRingFeatures; }
  [[nodiscard]] std::span<const u16> queue_sizes() const override { return kQueues; }
  [[nodiscard]] u32 config_size() const override { return 0; }
  void read_config(u32, std::span<u8>) override {}        // never called: there is none
  void write_config(u32, std::span<const u8>) override {} // nor this
  [[nodiscard]] std::vector<u8> save() override { return {}; }
  [[nodiscard]] Result<void> load(std::span<const u8> state) override;

private:
  static constexpr u16 kQueues[1] = {64};
  [[nodiscard]] std::expected<Served, QueueFault> serve(u16 index, Queue &queue) override;
  void after_serve() override {}
  void stopped() override {}

  Chain chain_; // under lock_; kept for its room
};

} // namespace abyme::virtio
