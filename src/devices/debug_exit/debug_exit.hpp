#pragma once
#include "bus/bus.hpp"
#include "bus/byte_registers.hpp"
#include "bus/power_signals.hpp"

namespace abyme {

// QEMU's isa-debug-exit: a write ends the machine with the value. It has no state.
class DebugExit final : public RegisterBlock {
public:
  static constexpr u16 kPort = 0xf4;

  DebugExit(Bus &bus, PowerSignals &power) : bus_(bus), power_(power) { bus_.add_ports(kPort, kPorts, *this); }
  ~DebugExit() override { bus_.remove_ports(kPort, *this); }
  DebugExit(const DebugExit &) = delete;
  DebugExit &operator=(const DebugExit &) = delete;

  [[nodiscard]] u64 read(u64, unsigned) override { return 0; }
  void write(u64, unsigned, u64 value) override { power_.debug_exit(static_cast<u8>(value)); }

private:
  static constexpr u32 kPorts = 4;
  Bus &bus_;
  PowerSignals &power_;
};

} // namespace abyme
