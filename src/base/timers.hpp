#pragma once
#include "base/clock.hpp"
#include <functional>
#include <memory>

namespace abyme {

// One deadline. Its callback runs on the service's thread with no lock held, and may still run once, late, after cancel() or set():
// so a callback takes its device's lock and looks at the device's state before it acts.
class Timer {
public:
  virtual ~Timer() = default; // waits for a callback under way
  virtual void set(Nanoseconds deadline) = 0;
  virtual void cancel() = 0;
};

// Where devices get their deadlines from; tests inject FakeTimers.
class TimerService {
public:
  virtual ~TimerService() = default;
  [[nodiscard]] virtual std::unique_ptr<Timer> create(std::function<void()> callback) = 0;
  [[nodiscard]] virtual const Clock &clock() const = 0;
};

// Deadlines on the host's clock, one thread for all of them.
[[nodiscard]] std::unique_ptr<TimerService> make_host_timers(const Clock &clock);

// Deadlines that are run, in order, by advance().
class FakeTimers final : public TimerService {
public:
  explicit FakeTimers(FakeClock &clock);
  ~FakeTimers() override;
  [[nodiscard]] std::unique_ptr<Timer> create(std::function<void()> callback) override;
  [[nodiscard]] const Clock &clock() const override { return clock_; }
  void advance(Nanoseconds n);

private:
  struct Queue;
  FakeClock &clock_;
  std::shared_ptr<Queue> queue_;
};

} // namespace abyme
