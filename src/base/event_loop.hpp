#pragma once
#include "base/fd.hpp"
#include "base/int.hpp"
#include "base/result.hpp"
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <sys/epoll.h>
#include <thread>
#include <vector>

namespace abyme {

// Host file descriptors and what to do when they become ready, all on the thread that calls run(). Every other method
// is safe from any thread.
class EventLoop {
public:
  [[nodiscard]] static Result<std::unique_ptr<EventLoop>> create();
  ~EventLoop();
  EventLoop(const EventLoop &) = delete;
  EventLoop &operator=(const EventLoop &) = delete;

  // Ends with its owner, who destroys it before closing the descriptor. Once destroyed, its callback is neither running
  // (unless it is the callback that destroys it) nor runs again. The loop outlives its watches.
  class Watch {
  public:
    ~Watch();
    Watch(const Watch &) = delete;
    Watch &operator=(const Watch &) = delete;
    // EPOLLIN, EPOLLOUT, ...; 0 to pause.
    void set_events(u32 events);

  private:
    friend class EventLoop;
    Watch(EventLoop &loop, int fd, u64 id) : loop_(loop), fd_(fd), id_(id) {}
    EventLoop &loop_;
    int fd_;
    u64 id_;
  };
  // Level-triggered: `ready` gets the epoll events. Fails for what epoll cannot watch, such as a regular file.
  [[nodiscard]] Result<std::unique_ptr<Watch>> watch(int fd, u32 events, std::function<void(u32)> ready);
  // Runs `task` once on the loop's thread.
  void post(std::function<void()> task);
  // Until stop(), also if that was called before.
  void run();
  void stop();

private:
  EventLoop() = default;
  using Callback = std::shared_ptr<std::function<void(u32)>>;
  void dispatch(u64 id, u32 events);
  void run_tasks();
  void remove(int fd, u64 id);
  void wake();

  Fd epoll_;
  Fd wake_;
  std::mutex mutex_;
  std::condition_variable_any done_;
  std::map<u64, Callback> watches_;          // under mutex_
  std::vector<std::function<void()>> tasks_; // under mutex_
  u64 next_id_ = 1;                          // under mutex_
  u64 running_ = 0;                          // under mutex_: whose callback runs now
  std::thread::id thread_;                   // under mutex_: who is in run()
  bool stopped_ = false;                     // under mutex_
};

} // namespace abyme
