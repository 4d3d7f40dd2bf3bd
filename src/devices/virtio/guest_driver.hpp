#pragma once
#include "devices/pci/pci_host.hpp"
#include "devices/virtio/pci.hpp"
#include <chrono>
#include <condition_variable>
#include <map>

// For tests: a PC with one virtio function, and a driver for it that goes through ports, BARs and memory as a guest
// does.
namespace abyme::virtio::test {

using namespace std::chrono_literals;

// What arrived at the local APICs, and the levels of wires.
class Interrupts final : public InterruptSink, public IrqLine {
public:
  void message(u64 address, u32 data) override;
  void external_interrupt_changed() override {}
  void set(bool level) override;
  // Waits until the message with this data has come `count` times in all.
  [[nodiscard]] bool wait_message(u32 data, unsigned count = 1);
  [[nodiscard]] bool wait_level(bool level);
  [[nodiscard]] unsigned messages(u32 data);

private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<u32, unsigned> messages_;
  bool level_ = false;
};

class NoReset final : public RegisterBlock {
  [[nodiscard]] u64 read(u64, unsigned) override { return 0; }
  void write(u64, unsigned, u64) override {}
};

class Pc {
public:
  explicit Pc(std::unique_ptr<Device> device, u64 memory_size = 16_MiB);
  ~Pc();

  std::unique_ptr<GuestMemory> memory;
  Bus bus;
  Interrupts interrupts;
  std::unique_ptr<VirtioPci> function;
  static constexpr unsigned kSlot = 3;

  // Guest memory that nothing else uses.
  [[nodiscard]] Gpa allocate(u64 size, u64 alignment = 16);
  [[nodiscard]] u32 config_read(unsigned offset, unsigned size);
  void config_write(unsigned offset, unsigned size, u32 value);

private:
  NoReset no_reset_;
  std::unique_ptr<PciHost> host_;
  Gpa next_{0x10000};
};

// An engine that takes doorbells and irqfds, and remembers them.
class DoorbellEngine final : public Engine {
public:
  [[nodiscard]] std::string_view name() const override { return "doorbells"; }
  [[nodiscard]] Vcpu &vcpu(unsigned) override { std::abort(); } // it has none
  void stop() override {}
  void message(u64, u32) override {}
  void external_interrupt_changed() override {}
  [[nodiscard]] bool attach_doorbell(Gpa at, unsigned, int fd) override {
    return doorbells.emplace(at.value, fd).second;
  }
  void detach_doorbell(Gpa at, unsigned, int) override { doorbells.erase(at.value); }
  [[nodiscard]] bool attach_irqfd(int fd, u64, u32 data) override { return irqfds.emplace(fd, data).second; }
  void detach_irqfd(int fd) override { irqfds.erase(fd); }
  std::map<u64, int> doorbells;
  std::map<int, u32> irqfds;
};

struct Piece {
  Gpa at;
  u32 size;
  bool writable;
};
struct Used {
  u32 id;
  u32 length;
};

// The driver's side of one split virtqueue.
class DriverQueue {
public:
  DriverQueue(Pc &pc, u16 size, bool event_idx);
  // Writes a chain into descriptors of its own and makes it available. Returns the head.
  u16 add(std::span<const Piece> pieces, bool indirect = false);
  // A chain, or anything else, put down by hand.
  void write_descriptor(u16 index, u64 at, u32 size, u16 flags, u16 next);
  void make_available(u16 head);
  void set_available_index(u16 index);
  void set_used_event(u16 index);
  [[nodiscard]] u16 used_index() const;
  [[nodiscard]] std::optional<Used> take_used();
  [[nodiscard]] std::optional<Used> wait_used(std::chrono::milliseconds patience = 5s);

  QueueSetup setup;

private:
  Pc &pc_;
  u16 next_descriptor_ = 0;
  u16 next_available_ = 0;
  u16 next_used_ = 0;
};

class GuestDriver {
public:
  explicit GuestDriver(Pc &pc); // finds the structures
  // virtio 1.2 §3.1.1 up to FEATURES_OK; false if the device did not keep it.
  [[nodiscard]] bool negotiate(u64 features);
  void enable_msix(); // vector v sends data kMessage + v; queue q uses vector q + 1, configuration changes 0
  void mask_vector(unsigned vector, bool masked);
  DriverQueue &add_queue(u16 index, u16 size = 0);
  void driver_ok();
  // All of the above.
  [[nodiscard]] bool start(u64 features, u16 queues, bool msix = true);
  void reset();
  void kick(u16 queue);
  [[nodiscard]] u8 status();
  [[nodiscard]] u64 offered();
  [[nodiscard]] u64 common(unsigned offset, unsigned size);
  void set_common(unsigned offset, unsigned size, u64 value);
  [[nodiscard]] u64 device_config(unsigned offset, unsigned size);
  [[nodiscard]] u8 isr();
  [[nodiscard]] Gpa doorbell(u16 queue);
  [[nodiscard]] unsigned window_capability() const { return window_; }
  [[nodiscard]] DriverQueue &queue(u16 index) { return *queues_.at(index); }
  // Sends a request and waits for it: the bytes the device wrote, or nothing if it did not answer.
  std::optional<u32> request(u16 queue, std::span<const Piece> pieces, bool indirect = false);

  static constexpr u32 kMessage = 0x40;
  static constexpr u8 kAcknowledge = 1, kDriver = 2, kDriverOk = 4, kFeaturesOk = 8, kNeedsReset = 64;
  Pc &pc;

private:
  [[nodiscard]] Gpa structure(unsigned type);
  std::map<unsigned, std::pair<unsigned, u32>> structures_; // type → BAR and offset
  u32 notify_multiplier_ = 0;
  unsigned window_ = 0, msix_ = 0;
  bool msix_on_ = false;
  u64 features_ = 0;
  std::map<u16, std::unique_ptr<DriverQueue>> queues_;
};

} // namespace abyme::virtio::test
