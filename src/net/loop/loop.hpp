#pragma once
#include "base/clock.hpp"
#include "base/fd.hpp"
#include "base/int.hpp"
#include <functional>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

namespace abyme::net {

// Something that is quicker asked than waited for, while it is busy: a virtqueue under load.
class Poller {
public:
  virtual ~Poller() = default;
  virtual unsigned poll() = 0; // does what is there, at most a burst; returns how much
  // Asks for a notification of what comes from now on; true when something came before it took effect.
  virtual bool arm() = 0;
  virtual void disarm() = 0;
};

// The switch's one thread: sleeps until a descriptor, a deadline or a notification wants it, and polls busy ports
// without sleeping.
class Loop {
public:
  explicit Loop(const Clock &clock);
  ~Loop();
  Loop(const Loop &) = delete;
  Loop &operator=(const Loop &) = delete;
  [[nodiscard]] const Clock &clock() const { return clock_; }

  using Ready = std::function<void(u32 epoll_events)>;
  void watch(int fd, u32 epoll_events, Ready ready); // again for the same descriptor: replaces
  void unwatch(int fd);

  using TimerId = u64;
  TimerId at(Nanoseconds when, std::function<void()> run);
  void cancel(TimerId id);

  void wake(Poller &poller); // from its notification: poll it until it falls idle
  void remove(Poller &poller);

  void run(); // until stop()
  void stop() { stop_ = true; }
  // One round: polls, and waits for at most `wait` when nothing was to do. For tests.
  void step(Nanoseconds wait);

private:
  static constexpr Nanoseconds kPatience = 50'000; // a poller without work for so long is armed and left to sleep
  static constexpr unsigned kRoundsBetweenLooks = 32;
  struct Busy {
    Poller *poller;
    Nanoseconds last_work;
  };
  struct Watch {
    u64 generation;
    Ready ready;
  };
  [[nodiscard]] bool poll_busy();
  void dispatch(Nanoseconds timeout);
  void run_timers();
  [[nodiscard]] Nanoseconds until_timer(Nanoseconds limit) const;

  const Clock &clock_;
  Fd epoll_;
  bool stop_ = false;
  u64 next_id_ = 1;
  unsigned rounds_ = 0;
  std::vector<Busy> busy_;
  std::unordered_map<int, std::shared_ptr<Watch>> watches_;
  std::multimap<Nanoseconds, std::pair<TimerId, std::function<void()>>> timers_;
};

} // namespace abyme::net
