#include "net/loop/loop.hpp"
#include <algorithm>
#include <sys/epoll.h>
#include <utility>

namespace abyme::net {

Loop::Loop(const Clock &clock) : clock_(clock), epoll_(epoll_create1(EPOLL_CLOEXEC)) {}

// What the callbacks keep alive may still unwatch and cancel while it goes.
Loop::~Loop() {
  auto watches = std::exchange(watches_, {});
  watches.clear();
  auto timers = std::exchange(timers_, {});
  timers.clear();
}

void Loop::watch(int fd, u32 events, Ready ready) {
  auto w = std::make_shared<Watch>(Watch{next_id_++, std::move(ready)});
  epoll_event e{.events = events, .data = {.u64 = w->generation << 32 | static_cast<u32>(fd)}};
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &e)) epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &e);
  watches_[fd] = std::move(w);
}

void Loop::unwatch(int fd) {
  if (!watches_.erase(fd)) return;
  epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

Loop::TimerId Loop::at(Nanoseconds when, std::function<void()> run) {
  const TimerId id = next_id_++;
  timers_.emplace(when, std::pair{id, std::move(run)});
  return id;
}

void Loop::cancel(TimerId id) {
  std::erase_if(timers_, [&](const auto &t) { return t.second.first == id; });
}

void Loop::wake(Poller &poller) {
  if (std::ranges::find(busy_, &poller, &Busy::poller) != busy_.end()) return;
  poller.disarm();
  busy_.push_back({&poller, clock_.now()});
}

void Loop::remove(Poller &poller) {
  std::erase_if(busy_, [&](const Busy &b) { return b.poller == &poller; });
}

bool Loop::poll_busy() {
  if (busy_.empty()) return false;
  const Nanoseconds now = clock_.now();
  bool worked = false;
  // By index and backwards: a poller's work may remove itself or wake others.
  for (std::size_t i = busy_.size(); i-- > 0;) {
    if (i >= busy_.size()) continue;
    Poller *poller = busy_[i].poller;
    const bool work = poller->poll() > 0;
    if (i >= busy_.size() || busy_[i].poller != poller) continue;
    worked |= work;
    if (work) busy_[i].last_work = now;
    if (work || now - busy_[i].last_work < kPatience) continue;
    if (poller->arm()) {
      poller->disarm();
      busy_[i].last_work = now;
    } else {
      busy_.erase(busy_.begin() + static_cast<long>(i));
    }
  }
  return worked;
}

Nanoseconds Loop::until_timer(Nanoseconds limit) const {
  if (timers_.empty()) return limit;
  const Nanoseconds now = clock_.now(), first = timers_.begin()->first;
  return first <= now ? 0 : std::min(limit, first - now);
}

void Loop::run_timers() {
  const Nanoseconds now = clock_.now();
  while (!timers_.empty() && timers_.begin()->first <= now) {
    auto run = std::move(timers_.begin()->second.second);
    timers_.erase(timers_.begin());
    run();
  }
}

void Loop::dispatch(Nanoseconds timeout) {
  epoll_event events[64];
  const timespec wait{.tv_sec = static_cast<time_t>(timeout / 1'000'000'000),
                      .tv_nsec = static_cast<long>(timeout % 1'000'000'000)};
  const int n = epoll_pwait2(epoll_.get(), events, 64, &wait, nullptr);
  for (int i = 0; i < n; i++) {
    const int fd = static_cast<int>(events[i].data.u64 & 0xffff'ffff);
    const auto found = watches_.find(fd);
    if (found == watches_.end() || found->second->generation != events[i].data.u64 >> 32)
      continue; // gone or replaced meanwhile
    const auto keep = found->second;
    keep->ready(events[i].events);
  }
}

void Loop::step(Nanoseconds wait) {
  if (poll_busy() && ++rounds_ % kRoundsBetweenLooks) return;
  if (!busy_.empty() && rounds_++ % kRoundsBetweenLooks) {
    if (!timers_.empty() && timers_.begin()->first <= clock_.now()) run_timers();
    return;
  }
  dispatch(busy_.empty() ? until_timer(wait) : 0);
  run_timers();
}

void Loop::run() {
  constexpr Nanoseconds kLong = 3600ull * 1'000'000'000;
  while (!stop_) step(kLong);
}

} // namespace abyme::net
