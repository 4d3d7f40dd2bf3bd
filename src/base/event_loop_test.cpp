#include "base/event_loop.hpp"
#include <atomic>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

namespace abyme {
namespace {

void signal(const Fd &event) {
  const u64 one = 1;
  ASSERT_EQ(::write(event.get(), &one, sizeof one), 8);
}

TEST(EventLoop, CallsBackForAReadyDescriptorAndStops) {
  auto loop = EventLoop::create().value();
  const Fd event(eventfd(0, EFD_CLOEXEC));
  unsigned calls = 0;
  auto watch = loop->watch(event.get(), EPOLLIN, [&](u32 events) {
    EXPECT_TRUE(events & EPOLLIN);
    u64 count;
    EXPECT_EQ(::read(event.get(), &count, sizeof count), 8);
    if (++calls == 2)
      loop->stop();
    else
      signal(event);
  });
  ASSERT_TRUE(watch);
  signal(event);
  loop->run();
  EXPECT_EQ(calls, 2u);
}

TEST(EventLoop, RunsPostedTasksOnItsThread) {
  auto loop = EventLoop::create().value();
  std::thread::id ran;
  std::jthread thread([&] { loop->run(); });
  const auto id = thread.get_id();
  loop->post([&] {
    ran = std::this_thread::get_id();
    loop->stop();
  });
  thread.join();
  EXPECT_EQ(ran, id);
}

TEST(EventLoop, AWatchEndedByAnotherCallbackOfTheSameRoundStaysSilent) {
  auto loop = EventLoop::create().value();
  const Fd first(eventfd(0, EFD_CLOEXEC)), second(eventfd(0, EFD_CLOEXEC));
  std::unique_ptr<EventLoop::Watch> a, b;
  unsigned calls = 0;
  const auto end_both = [&](u32) {
    calls++;
    a.reset();
    b.reset();
    loop->stop();
  };
  a = loop->watch(first.get(), EPOLLIN, end_both).value();
  b = loop->watch(second.get(), EPOLLIN, end_both).value();
  signal(first);
  signal(second);
  loop->run();
  EXPECT_EQ(calls, 1u);
}

TEST(EventLoop, EndingAWatchWaitsForItsCallback) {
  auto loop = EventLoop::create().value();
  const Fd event(eventfd(0, EFD_CLOEXEC));
  std::atomic<bool> entered = false, left = false;
  auto watch = loop->watch(event.get(), EPOLLIN, [&](u32) {
    entered = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    left = true;
  });
  ASSERT_TRUE(watch);
  std::jthread thread([&] { loop->run(); });
  signal(event);
  while (!entered) std::this_thread::yield();
  watch->reset();
  EXPECT_TRUE(left);
  loop->stop();
}

TEST(EventLoop, RefusesARegularFile) {
  auto loop = EventLoop::create().value();
  char name[] = "/tmp/abyme-event-loop-XXXXXX";
  const Fd file(mkstemp(name));
  unlink(name);
  EXPECT_FALSE(loop->watch(file.get(), EPOLLIN, [](u32) {}));
}

} // namespace
} // namespace abyme
