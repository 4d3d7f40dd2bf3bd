#pragma once
#include "base/fd.hpp"
#include "bus/byte_registers.hpp"
#include "devices/pci/pci_function.hpp"
#include "devices/virtio/device.hpp"
#include <atomic>

namespace abyme::virtio {

// A virtio device as a modern PCI function (virtio 1.2 §4.1). BAR 0 holds the four structures, a page each; BAR 1 the
// MSI-X table, with a vector for configuration changes and one for each queue. Each queue has a doorbell address of its
// own, so that an engine can turn kicks into eventfd signals.
class VirtioPci final : public PciFunction, private Transport {
public:
  [[nodiscard]] static Result<std::unique_ptr<VirtioPci>> create(Bus &bus, InterruptSink &sink, GuestMemory &memory,
                                                                 std::unique_ptr<Device> device);
  ~VirtioPci() override;

  // The engine, once it is made: doorbells and irqfds. Before any vCPU runs; the engine outlives this or disconnect()
  // comes first.
  void connect(Engine &engine);
  void disconnect(); // after the vCPUs' last run

  struct QueueState {
    QueueSetup setup;
    QueuePosition position;
    u16 vector = kNoVector;
    bool enabled = false;
    bool operator==(const QueueState &) const = default;
  };
  struct State {
    PciFunction::State function;
    u64 driver_features = 0;
    u32 device_feature_select = 0;
    u32 driver_feature_select = 0;
    u16 queue_select = 0;
    u16 config_vector = kNoVector;
    u8 status = 0;
    u8 isr = 0;
    u8 config_generation = 0;
    std::vector<QueueState> queues;
    std::vector<u8> device;
    bool operator==(const State &) const = default;
  };
  // With the vCPUs stopped and the device lock held: pause(), save() and what goes with it (RAM), resume(). restore()
  // into a function of the same kind, fresh or not; it resumes by itself.
  void pause();
  void resume();
  [[nodiscard]] State save();
  [[nodiscard]] Result<void> restore(const State &state);

  static constexpr u16 kNoVector = 0xffff; // VIRTIO_MSI_NO_VECTOR
  static constexpr unsigned kRegisterBar = 0, kMsixBar = 1;

private:
  struct QueueRegisters {
    QueueSetup setup;
    QueuePosition position; // where start() begins; else valid only between pause() and resume()
    bool enabled = false;
    std::atomic<u16> vector = kNoVector; // read by notify_used() without the device lock
    Fd kick, call;
    bool call_attached = false;  // the engine takes the signals of `call`
    std::optional<Gpa> doorbell; // where the engine turns writes into signals of `kick`
  };

  VirtioPci(Bus &bus, InterruptSink &sink, GuestMemory &memory, std::unique_ptr<Device> device);
  [[nodiscard]] Result<void> make_events();
  void add_capabilities();
  void add_structure(u8 type, u32 offset, u32 size, std::span<const u8> more);

  // Transport; any thread, device lock not held.
  [[nodiscard]] GuestMemory &memory() override { return memory_; }
  [[nodiscard]] int kick_fd(u16 queue) override { return queues_[queue].kick.get(); }
  [[nodiscard]] int call_fd(u16 queue) override { return queues_[queue].call.get(); }
  void notify_used(u16 queue, u64 epoch) override;
  void notify_config() override;
  void needs_reset(u64 epoch, const std::string &why) override;

  // PciFunction
  void reset_device() override;
  void bars_changed() override { update_doorbells(); }

  // The register blocks; device lock held.
  [[nodiscard]] u64 read_registers(u64 offset, unsigned size);
  void write_registers(u64 offset, unsigned size, u64 value);
  [[nodiscard]] u64 read_common(u64 offset, unsigned size);
  void write_common(u64 offset, unsigned size, u64 value);
  void write_queue(u64 offset, unsigned size, u64 value);
  [[nodiscard]] u64 read_isr(u64 offset);
  [[nodiscard]] u64 read_device(u64 offset, unsigned size);
  void write_device(u64 offset, unsigned size, u64 value);
  void kick(u64 offset);
  [[nodiscard]] u64 read_window(u64 offset, unsigned size);
  void write_window(u64 offset, unsigned size, u64 value);
  struct Window {
    u64 offset;
    unsigned size;
  };
  [[nodiscard]] std::optional<Window> window(unsigned size) const;

  void write_status(u8 value);
  void accept_features();
  void start();
  void stop();
  void clear_registers();
  void break_device(const std::string &why);
  void send_config_interrupt();
  void raise_intx(u8 isr_bit);
  void update_doorbells();
  void update_irqfd(QueueRegisters &queue);
  void vector_changed(unsigned vector);
  [[nodiscard]] u64 offered_features() { return device_->features() | kVersion1; }
  [[nodiscard]] u16 valid_vector(u64 value) const;

  Bus &bus_;
  GuestMemory &memory_;
  Engine *engine_ = nullptr;
  MemberBlock<VirtioPci> registers_;
  MemberBlock<VirtioPci> window_;
  unsigned window_at_ = 0; // the PCI_CFG capability

  // Guarded by the device lock, but for the atomics.
  std::vector<QueueRegisters> queues_;
  u64 driver_features_ = 0;
  u32 device_feature_select_ = 0;
  u32 driver_feature_select_ = 0;
  u16 queue_select_ = 0;
  u8 status_ = 0;
  u8 isr_ = 0;
  bool running_ = false;    // between start() and stop()
  unsigned complaints_ = 0; // how often the driver broke the device
  std::atomic<u16> config_vector_ = kNoVector;
  std::atomic<u8> config_generation_ = 0;
  std::atomic<u64> epoch_ = 1; // counts resets

  std::unique_ptr<Device> device_; // last: its threads use what stands above
};

} // namespace abyme::virtio
