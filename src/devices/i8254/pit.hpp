#pragma once
#include "base/timers.hpp"
#include "bus/bus.hpp"
#include "bus/byte_registers.hpp"
#include "devices/i8254/pit_channel.hpp"

namespace abyme {

// The PC's 8254: channel 0 drives IRQ 0; channel 2 is gated and read through port 0x61. Until a guest programs a
// channel it stands still, for no firmware has started it.
class Pit {
public:
  struct State {
    std::array<PitChannel::State, 3> channels{};
    bool speaker = false;
    bool irq = false; // the level of IRQ 0
    Nanoseconds saved_at = 0;
    bool operator==(const State &) const = default;
  };

  Pit(Bus &bus, TimerService &timers, IrqLine &irq0);
  ~Pit();
  Pit(const Pit &) = delete;
  Pit &operator=(const Pit &) = delete;

  void reset();
  [[nodiscard]] State save() const;
  void restore(const State &state);

private:
  u8 read_counter(u64 offset);
  void write_counter(u64 offset, u8 value);
  u8 read_control_b(u64 offset);
  void write_control_b(u64 offset, u8 value);
  void read_back(u8 command);
  void expired();
  void schedule();
  void drive(bool level);
  [[nodiscard]] Nanoseconds now() const { return clock_.now(); }

  Bus &bus_;
  const Clock &clock_;
  IrqLine &irq0_;
  std::array<PitChannel, 3> channels_;
  bool speaker_ = false;
  bool irq_ = false;
  std::optional<Nanoseconds> next_rise_; // of channel 0's output
  MemberBytes<Pit> counters_, control_b_;
  std::unique_ptr<Timer> timer_; // last: its destructor waits for expired()
};

} // namespace abyme
