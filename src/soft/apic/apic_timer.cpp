#include "soft/apic/apic_timer.hpp"
#include <algorithm>

namespace abyme::soft {
namespace {

// A guest may ask for a period of a nanosecond. Its interrupts would merge in the IRR anyway; this bounds what that
// costs the host.
constexpr Nanoseconds kShortestWait = 50'000;

} // namespace

ApicTimer::ApicTimer(TimerService &timers, std::function<void()> expired)
    : clock_(timers.clock()), timer_(timers.create(std::move(expired))) {}

// SDM 3A figure 11-10: bits 3, 1 and 0; 111b divides by 1, the others by 2 to 128.
u64 ApicTimer::divisor() const {
  const unsigned code = (state_.divide & 3) | (state_.divide >> 1 & 4);
  return code == 7 ? 1 : 2ull << code;
}

Nanoseconds ApicTimer::elapsed() const {
  const Nanoseconds since = now() - start_;
  return state_.mode == Mode::Periodic && period() != 0 ? since % period() : since;
}

u32 ApicTimer::current() const {
  if (!state_.running || state_.mode == Mode::TscDeadline) return 0;
  const u64 counted = elapsed() / divisor();
  return counted >= state_.initial ? 0 : static_cast<u32>(state_.initial - counted);
}

void ApicTimer::arm(Nanoseconds at) {
  state_.running = true;
  deadline_ = at;
  timer_->set(at);
}

void ApicTimer::disarm() {
  state_.running = false;
  timer_->cancel();
}

void ApicTimer::arm_count() { arm(start_ + period()); }

// Going to or from TSC-deadline mode disarms; between one-shot and periodic the count goes on (§11.5.4.1).
void ApicTimer::set_mode(Mode mode) {
  if (mode == state_.mode) return;
  const auto counts = [](Mode m) { return m == Mode::OneShot || m == Mode::Periodic; };
  if (!counts(mode) || !counts(state_.mode)) {
    disarm();
    state_.tsc_deadline = 0;
    state_.initial = 0;
  } else {
    start_ = now() - elapsed();
  }
  state_.mode = mode;
}

void ApicTimer::set_divide(u32 value) {
  const u64 counted = elapsed() / divisor();
  state_.divide = static_cast<u8>(value);
  if (!state_.running || state_.mode == Mode::TscDeadline) return;
  start_ = now() - counted * divisor();
  arm_count();
}

void ApicTimer::set_initial(u32 count) {
  if (state_.mode == Mode::TscDeadline || state_.mode == Mode::Reserved) return;
  state_.initial = count;
  start_ = now();
  if (count == 0)
    disarm();
  else
    arm_count();
}

void ApicTimer::set_tsc_deadline(u64 tsc, Nanoseconds when) {
  if (state_.mode != Mode::TscDeadline) return;
  state_.tsc_deadline = tsc;
  if (tsc == 0)
    disarm();
  else
    arm(when);
}

bool ApicTimer::take_expiry() {
  const Nanoseconds time = now();
  if (!state_.running || time < deadline_) return false;
  if (state_.mode == Mode::Periodic && period() != 0) {
    arm(start_ + ((time - start_) / period() + 1) * period());
    timer_->set(std::max(deadline_, time + kShortestWait));
    return true;
  }
  state_.running = false;
  state_.tsc_deadline = 0;
  return true;
}

void ApicTimer::reset() {
  disarm();
  state_ = {};
}

ApicTimer::State ApicTimer::save() const {
  State saved = state_;
  saved.elapsed = state_.running && state_.mode != Mode::TscDeadline ? now() - start_ : 0;
  return saved;
}

void ApicTimer::restore(const State &state, Nanoseconds when) {
  reset();
  state_ = state;
  state_.elapsed = 0;
  if (!state.running) return;
  start_ = now() - state.elapsed;
  if (state.mode == Mode::TscDeadline)
    arm(when);
  else
    arm_count();
}

} // namespace abyme::soft
