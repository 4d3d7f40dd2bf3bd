#include "base/timers.hpp"
#include <atomic>
#include <gtest/gtest.h>
#include <thread>

namespace abyme {
namespace {

TEST(FakeTimers, RunsDeadlinesInOrderAtTheirTime) {
  FakeClock clock;
  FakeTimers timers(clock);
  std::vector<Nanoseconds> seen;
  auto late = timers.create([&] { seen.push_back(clock.now()); });
  auto early = timers.create([&] { seen.push_back(clock.now()); });
  late->set(200);
  early->set(100);
  timers.advance(150);
  EXPECT_EQ(seen, std::vector<Nanoseconds>{100});
  timers.advance(150);
  EXPECT_EQ(seen, (std::vector<Nanoseconds>{100, 200}));
  EXPECT_EQ(clock.now(), 300u);
}

TEST(HostTimers, FiresOnceAndNotAfterCancel) {
  HostClock clock;
  auto timers = make_host_timers(clock);
  std::atomic<int> fired = 0, cancelled = 0;
  auto a = timers->create([&] { fired++; });
  auto b = timers->create([&] { cancelled++; });
  b->set(clock.now() + 50'000'000);
  a->set(clock.now() + 1'000'000);
  b->cancel();
  const auto deadline = clock.now() + 5'000'000'000;
  while (!fired && clock.now() < deadline) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(80));
  EXPECT_EQ(fired, 1);
  EXPECT_EQ(cancelled, 0);
}

} // namespace
} // namespace abyme
