#pragma once
#include "bus/bus.hpp"
#include "bus/byte_registers.hpp"
#include "devices/i8259/i8259_chip.hpp"
#include <atomic>

namespace abyme {

// The PC's two 8259As, the second cascaded into pin 2 of the first, with the edge/level control registers of the
// chipset.
class Pic final : public ExternalInterrupts {
public:
  struct State {
    I8259Chip::State master, slave;
    bool operator==(const State &) const = default;
  };

  Pic(Bus &bus, InterruptSink &sink);
  ~Pic() override;
  Pic(const Pic &) = delete;
  Pic &operator=(const Pic &) = delete;

  void set_irq(unsigned irq, bool level); // 0 to 15 but 2; with the device lock held
  // On vCPU 0's thread, without the device lock.
  [[nodiscard]] bool pending() override { return output_.load(std::memory_order_acquire); }
  [[nodiscard]] u8 acknowledge() override;

  void reset();
  [[nodiscard]] State save() const { return {master_.state(), slave_.state()}; }
  void restore(const State &state);

private:
  u8 read_master(u64 offset);
  void write_master(u64 offset, u8 value);
  u8 read_slave(u64 offset);
  void write_slave(u64 offset, u8 value);
  u8 read_edge_level(u64 offset);
  void write_edge_level(u64 offset, u8 value);
  void update();

  Bus &bus_;
  InterruptSink &sink_;
  I8259Chip master_, slave_;
  std::atomic<bool> output_ = false; // INTR; written with the device lock held
  MemberBytes<Pic> master_ports_, slave_ports_, edge_level_ports_;
};

} // namespace abyme
