#pragma once
#include "base/timers.hpp"
#include "bus/bus.hpp"
#include "bus/byte_registers.hpp"
#include "bus/power_signals.hpp"

namespace abyme {

// ACPI's fixed hardware (ACPI 6.4 §4.8): PM1a events and control, with S5, and the PM timer, at 12 ports. The machine
// is in ACPI mode from the start: SCI_EN always reads as set.
class AcpiPm {
public:
  static constexpr u16 kControlOffset = 4, kTimerOffset = 8;
  static constexpr u64 kTimerHertz = 3'579'545;
  struct Config {
    u16 port = 0x600;
    unsigned timer_bits = 24; // or 32: then FADT says TMR_VAL_EXT
    u8 soft_off_type = 0;     // SLP_TYP of S5
  };
  struct State {
    u16 status = 0, enable = 0, control = 0;
    u64 ticks = 0; // of the PM timer
    bool operator==(const State &) const = default;
  };

  AcpiPm(Bus &bus, TimerService &timers, IrqLine &sci, PowerSignals &power, const Config &config);
  ~AcpiPm();
  AcpiPm(const AcpiPm &) = delete;
  AcpiPm &operator=(const AcpiPm &) = delete;

  // Asks the guest to shut down. With the device lock held.
  void press_power_button();
  void reset(); // the PM timer runs on
  [[nodiscard]] State save();
  void restore(const State &state);

private:
  u8 read_event(u64 offset);
  void write_event(u64 offset, u8 value);
  u8 read_control(u64 offset);
  void write_control(u64 offset, u8 value);
  u64 read_timer(u64 offset, unsigned size);
  void write_timer(u64 offset, unsigned size, u64 value);
  [[nodiscard]] u64 ticks() const;
  void catch_up();
  void update();
  void expired();
  [[nodiscard]] Nanoseconds now() const { return clock_.now(); }

  Bus &bus_;
  const Clock &clock_;
  IrqLine &sci_;
  PowerSignals &power_;
  const Config config_;
  State s_;            // but for `ticks`
  u64 first_tick_ = 0; // what the timer counted at start_
  Nanoseconds start_ = 0;
  u64 carries_seen_ = 0; // changes of the timer's most significant bit up to which TMR_STS has been told
  MemberBytes<AcpiPm> event_, control_;
  MemberBlock<AcpiPm> timer_port_;
  std::unique_ptr<Timer> timer_; // last: its destructor waits for expired()
};

} // namespace abyme
