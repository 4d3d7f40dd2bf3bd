#include "base/event_loop.hpp"
#include <array>
#include <sys/eventfd.h>

namespace abyme {
namespace {

constexpr u64 kWakeId = 0;

} // namespace

Result<std::unique_ptr<EventLoop>> EventLoop::create() {
  auto loop = std::unique_ptr<EventLoop>(new EventLoop);
  loop->epoll_ = Fd(epoll_create1(EPOLL_CLOEXEC));
  loop->wake_ = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!loop->epoll_ || !loop->wake_) return fail_errno("event loop: epoll_create1 or eventfd");
  epoll_event event{.events = EPOLLIN, .data = {.u64 = kWakeId}};
  if (epoll_ctl(loop->epoll_.get(), EPOLL_CTL_ADD, loop->wake_.get(), &event) != 0)
    return fail_errno("event loop: epoll_ctl");
  return loop;
}

EventLoop::~EventLoop() = default;

EventLoop::Watch::~Watch() { loop_.remove(fd_, id_); }

void EventLoop::Watch::set_events(u32 events) {
  epoll_event event{.events = events, .data = {.u64 = id_}};
  epoll_ctl(loop_.epoll_.get(), EPOLL_CTL_MOD, fd_, &event);
}

Result<std::unique_ptr<EventLoop::Watch>> EventLoop::watch(int fd, u32 events, std::function<void(u32)> ready) {
  const std::lock_guard lock(mutex_);
  const u64 id = next_id_++;
  epoll_event event{.events = events, .data = {.u64 = id}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return fail_errno(fmt::format("event loop: watching descriptor {}", fd));
  watches_.emplace(id, std::make_shared<std::function<void(u32)>>(std::move(ready)));
  return std::unique_ptr<Watch>(new Watch(*this, fd, id));
}

void EventLoop::remove(int fd, u64 id) {
  std::unique_lock lock(mutex_);
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  watches_.erase(id);
  if (std::this_thread::get_id() != thread_) done_.wait(lock, [this, id] { return running_ != id; });
}

void EventLoop::post(std::function<void()> task) {
  const std::lock_guard lock(mutex_);
  tasks_.push_back(std::move(task));
  wake();
}

void EventLoop::stop() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  wake();
}

void EventLoop::wake() {
  const u64 one = 1;
  // It can only fail when the counter is full, and then the loop is awake already.
  [[maybe_unused]] const auto written = ::write(wake_.get(), &one, sizeof one);
}

void EventLoop::run_tasks() {
  u64 count;
  [[maybe_unused]] const auto got = ::read(wake_.get(), &count, sizeof count);
  std::vector<std::function<void()>> tasks;
  {
    const std::lock_guard lock(mutex_);
    tasks.swap(tasks_);
  }
  for (const auto &task : tasks) task();
}

void EventLoop::dispatch(u64 id, u32 events) {
  Callback callback;
  {
    const std::lock_guard lock(mutex_);
    const auto found = watches_.find(id); // a callback of this round may have ended it
    if (found == watches_.end()) return;
    callback = found->second;
    running_ = id;
  }
  (*callback)(events);
  const std::lock_guard lock(mutex_);
  running_ = 0;
  done_.notify_all();
}

void EventLoop::run() {
  std::array<epoll_event, 32> ready;
  std::unique_lock lock(mutex_);
  thread_ = std::this_thread::get_id();
  while (!stopped_) {
    lock.unlock();
    const int count = epoll_wait(epoll_.get(), ready.data(), ready.size(), -1);
    for (int i = 0; i < count; i++) {
      if (ready[i].data.u64 == kWakeId)
        run_tasks();
      else
        dispatch(ready[i].data.u64, ready[i].events);
    }
    lock.lock();
  }
  stopped_ = false;
  thread_ = {};
}

} // namespace abyme
