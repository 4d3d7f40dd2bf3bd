#pragma once
#include "base/int.hpp"

namespace abyme {

// Nanoseconds since an arbitrary start; monotonic.
using Nanoseconds = u64;

// Time for everything that a guest can observe. Injected, so that tests and repeatable runs can bring their own.
class Clock {
public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual Nanoseconds now() const = 0;
  // Seconds since 1970-01-01 UTC, for the RTC.
  [[nodiscard]] virtual u64 wall_seconds() const = 0;
};

class HostClock final : public Clock {
public:
  [[nodiscard]] Nanoseconds now() const override;
  [[nodiscard]] u64 wall_seconds() const override;
};

// A clock that moves only when told to.
class FakeClock final : public Clock {
public:
  [[nodiscard]] Nanoseconds now() const override { return now_; }
  [[nodiscard]] u64 wall_seconds() const override { return wall_ + now_ / 1'000'000'000; }
  void advance(Nanoseconds n) { now_ += n; }
  void set_wall(u64 seconds) { wall_ = seconds; }

private:
  Nanoseconds now_ = 0;
  u64 wall_ = 0;
};

} // namespace abyme
