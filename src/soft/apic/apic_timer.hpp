#pragma once
#include "base/timers.hpp"

namespace abyme::soft {

// The local APIC's timer (SDM 3A §11.5.4) without its LVT's vector and mask: it counts, and says when it has expired.
// Its input clock is 1 GHz, the VM's nanosecond clock. Under the lock of its APIC.
class ApicTimer {
public:
  enum class Mode : u8 { OneShot = 0, Periodic = 1, TscDeadline = 2, Reserved = 3 };
  struct State {
    Mode mode = Mode::OneShot;
    u8 divide = 0; // the divide configuration register
    bool running = false;
    u32 initial = 0;
    Nanoseconds elapsed = 0; // since the count was `initial`
    u64 tsc_deadline = 0;    // 0: not armed
    bool operator==(const State &) const = default;
  };

  // `expired` runs on the timer thread without a lock; it takes the APIC's and then asks take_expiry().
  ApicTimer(TimerService &timers, std::function<void()> expired);

  void set_mode(Mode mode);
  void set_divide(u32 value);
  void set_initial(u32 count);
  [[nodiscard]] u32 initial() const { return state_.initial; }
  [[nodiscard]] u32 current() const;
  [[nodiscard]] u32 divide() const { return state_.divide; }
  [[nodiscard]] Mode mode() const { return state_.mode; }
  // `when` is the time at which the TSC reaches `tsc`. Ignored unless in TSC-deadline mode.
  void set_tsc_deadline(u64 tsc, Nanoseconds when);
  [[nodiscard]] u64 tsc_deadline() const { return state_.tsc_deadline; }

  // Whether it has expired since the last call; starts the next period.
  [[nodiscard]] bool take_expiry();
  void reset();

  [[nodiscard]] State save() const;
  // `when` as for set_tsc_deadline().
  void restore(const State &state, Nanoseconds when);

private:
  [[nodiscard]] Nanoseconds now() const { return clock_.now(); }
  [[nodiscard]] u64 divisor() const;
  [[nodiscard]] Nanoseconds period() const { return state_.initial * divisor(); }
  [[nodiscard]] Nanoseconds elapsed() const;
  void arm(Nanoseconds at);
  void disarm();
  void arm_count();

  const Clock &clock_;
  State state_;                  // `elapsed` is valid only in what save() returns
  Nanoseconds start_ = 0;        // when the count was `initial`
  Nanoseconds deadline_ = 0;     // valid while running
  std::unique_ptr<Timer> timer_; // last: its destructor waits for a callback that uses the rest
};

} // namespace abyme::soft
