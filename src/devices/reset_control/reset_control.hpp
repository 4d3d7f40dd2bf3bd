#pragma once
#include "bus/device.hpp"
#include "bus/power_signals.hpp"

namespace abyme {

// The reset control register of PIIX and ICH chipsets, port 0xCF9: a rising RST_CPU (bit 2) resets the machine. The
// port lies inside of PCI's address register, so the PciHost passes it on.
class ResetControl final : public RegisterBlock {
public:
  struct State {
    u8 value = 0;
    bool operator==(const State &) const = default;
  };
  explicit ResetControl(PowerSignals &power) : power_(power) {}

  [[nodiscard]] u64 read(u64, unsigned) override { return s_.value; }
  void write(u64, unsigned, u64 value) override {
    const bool rises = value & ~s_.value & kResetCpu;
    s_.value = static_cast<u8>(value & kWritable);
    if (rises) power_.reset();
  }
  void reset() { s_ = {}; }
  [[nodiscard]] State save() const { return s_; }
  void restore(const State &state) { s_ = state; }

private:
  static constexpr u8 kResetCpu = 1 << 2;
  static constexpr u8 kWritable = 0x0e; // SYS_RST, RST_CPU, FULL_RST
  PowerSignals &power_;
  State s_;
};

} // namespace abyme
