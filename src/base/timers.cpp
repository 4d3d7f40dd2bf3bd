#include "base/timers.hpp"
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <thread>

namespace abyme {
namespace {

// The deadlines of all timers, in order, and the thread that waits for the first of them.
class HostTimers final : public TimerService {
public:
  explicit HostTimers(const Clock &clock) : clock_(clock), thread_([this](std::stop_token stop) { loop(stop); }) {}
  ~HostTimers() override {
    thread_.request_stop();
    wake_.notify_all();
  }
  [[nodiscard]] std::unique_ptr<Timer> create(std::function<void()> callback) override;
  [[nodiscard]] const Clock &clock() const override { return clock_; }

private:
  class HostTimer;
  void loop(const std::stop_token &stop);

  const Clock &clock_;
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::condition_variable_any done_;
  std::multimap<Nanoseconds, HostTimer *> deadlines_; // under mutex_
  Nanoseconds sleeping_until_ = 0;                    // under mutex_: 0 while the thread is awake
  HostTimer *running_ = nullptr;                      // under mutex_: whose callback runs now
  std::jthread thread_;
};

class HostTimers::HostTimer final : public Timer {
public:
  HostTimer(HostTimers &owner, std::function<void()> callback) : owner_(owner), callback_(std::move(callback)) {}
  ~HostTimer() override {
    std::unique_lock lock(owner_.mutex_);
    drop();
    if (std::this_thread::get_id() != owner_.thread_.get_id())
      owner_.done_.wait(lock, [this] { return owner_.running_ != this; });
  }
  void set(Nanoseconds deadline) override {
    const std::lock_guard lock(owner_.mutex_);
    drop();
    where_ = owner_.deadlines_.emplace(deadline, this);
    if (deadline < owner_.sleeping_until_) owner_.wake_.notify_all();
  }
  void cancel() override {
    const std::lock_guard lock(owner_.mutex_);
    drop();
  }

private:
  friend class HostTimers;
  void drop() {
    if (where_) owner_.deadlines_.erase(*where_);
    where_.reset();
  }

  HostTimers &owner_;
  std::function<void()> callback_;
  std::optional<std::multimap<Nanoseconds, HostTimer *>::iterator> where_; // under the owner's mutex_
};

std::unique_ptr<Timer> HostTimers::create(std::function<void()> callback) {
  return std::make_unique<HostTimer>(*this, std::move(callback));
}

void HostTimers::loop(const std::stop_token &stop) {
  std::unique_lock lock(mutex_);
  while (!stop.stop_requested()) {
    if (deadlines_.empty()) {
      sleeping_until_ = ~0ull;
      wake_.wait(lock, stop, [this] { return !deadlines_.empty(); });
      sleeping_until_ = 0;
      continue;
    }
    const Nanoseconds first = deadlines_.begin()->first;
    const Nanoseconds now = clock_.now();
    if (now < first) {
      // A deadline that went away is not worth waking for: the thread finds out when it would have come.
      sleeping_until_ = first;
      wake_.wait_for(lock, stop, std::chrono::nanoseconds(first - now),
                     [this, first] { return !deadlines_.empty() && deadlines_.begin()->first < first; });
      sleeping_until_ = 0;
      continue;
    }
    running_ = deadlines_.begin()->second;
    running_->drop();
    const auto callback = running_->callback_;
    lock.unlock();
    callback();
    lock.lock();
    running_ = nullptr;
    done_.notify_all();
  }
}

} // namespace

std::unique_ptr<TimerService> make_host_timers(const Clock &clock) { return std::make_unique<HostTimers>(clock); }

struct FakeTimers::Queue {
  struct FakeTimer final : Timer {
    FakeTimer(std::shared_ptr<Queue> q, std::function<void()> c) : queue(std::move(q)), callback(std::move(c)) {}
    ~FakeTimer() override { cancel(); }
    void set(Nanoseconds deadline) override {
      cancel();
      queue->deadlines.emplace(deadline, this);
    }
    void cancel() override { std::erase_if(queue->deadlines, [this](auto &d) { return d.second == this; }); }
    std::shared_ptr<Queue> queue;
    std::function<void()> callback;
  };
  std::multimap<Nanoseconds, FakeTimer *> deadlines;
};

FakeTimers::FakeTimers(FakeClock &clock) : clock_(clock), queue_(std::make_shared<Queue>()) {}
FakeTimers::~FakeTimers() = default;

std::unique_ptr<Timer> FakeTimers::create(std::function<void()> callback) {
  return std::make_unique<Queue::FakeTimer>(queue_, std::move(callback));
}

void FakeTimers::advance(Nanoseconds n) {
  const Nanoseconds end = clock_.now() + n;
  while (!queue_->deadlines.empty() && queue_->deadlines.begin()->first <= end) {
    const auto [deadline, timer] = *queue_->deadlines.begin();
    queue_->deadlines.erase(queue_->deadlines.begin());
    if (deadline > clock_.now()) clock_.advance(deadline - clock_.now());
    timer->callback();
  }
  clock_.advance(end - clock_.now());
}

} // namespace abyme
