#include "cli/nest/progress.hpp"
#include <gtest/gtest.h>

namespace abyme::cli::nest {
namespace {

using State = Level::State;

struct TwoLevels : ::testing::Test {
  TwoLevels() { progress.start(""); }
  void say(std::initializer_list<std::string_view> lines) {
    for (const auto line : lines) (void)progress.line(line);
  }
  State state(size_t level) const { return progress.levels()[level - 1].state; }
  FakeClock clock;
  Progress progress{2, clock};
};

TEST_F(TwoLevels, ARunToTheEnd) {
  clock.advance(3'000'000'000);
  say({"abyme: engine soft: KVM does not nest", "@abyme up uptime=2.5 kernel=6.1.0-test\r"});
  EXPECT_EQ(state(1), State::Measuring);
  say({"@abyme measured cpuid_tenths_ns=158", "@abyme starting kvm=kvm_intel"});
  EXPECT_EQ(state(1), State::Hosting);
  EXPECT_EQ(state(2), State::Boot);
  clock.advance(5'000'000'000);
  say({"| abyme: engine kvm: asked for", "| @abyme up uptime=4 kernel=6.1.0-test",
       "| @abyme measured cpuid_tenths_ns=50000", "| @abyme done", "| @abyme ended status=0", "@abyme done"});
  progress.end(0);
  EXPECT_TRUE(progress.complete());
  EXPECT_EQ(progress.failed_level(), 0u);
  const auto &l1 = progress.levels()[0], &l2 = progress.levels()[1];
  EXPECT_EQ(l1.engine, "soft");
  EXPECT_EQ(l1.kernel, "6.1.0-test");
  EXPECT_EQ(l1.kvm, "kvm_intel");
  EXPECT_EQ(l1.cpuid_ns, 15.8);
  EXPECT_EQ(*l1.up - l1.started, 3'000'000'000u);
  EXPECT_EQ(*l2.up - l2.started, 5'000'000'000u);
  EXPECT_EQ(l2.vmm_status, 0);
}

TEST_F(TwoLevels, TheInnermostLevelThatFailedIsNamed) {
  say({"@abyme up uptime=1 kernel=k", "@abyme starting kvm=kvm_intel", "| Segmentation fault",
       "| @abyme ended status=139", "@abyme done"});
  progress.end(0);
  EXPECT_FALSE(progress.complete());
  EXPECT_EQ(progress.failed_level(), 2u);
  EXPECT_EQ(progress.levels()[1].vmm_status, 139);
  ASSERT_FALSE(progress.last_lines().empty());
  EXPECT_EQ(progress.last_lines().back(), "L2 Segmentation fault");
}

TEST_F(TwoLevels, AVmmThatEndsEarlyFailsEveryLevelItHeld) {
  say({"@abyme up uptime=1 kernel=k", "@abyme starting kvm=kvm_intel", "| @abyme up uptime=1 kernel=k"});
  progress.end(5);
  EXPECT_EQ(state(1), State::Failed);
  EXPECT_EQ(state(2), State::Failed);
}

TEST_F(TwoLevels, ALevelThatNeverStartedIsNotComplete) {
  say({"@abyme up uptime=1 kernel=k", "@abyme done"});
  progress.end(0);
  EXPECT_FALSE(progress.complete());
  EXPECT_EQ(progress.failed_level(), 2u);
}

TEST_F(TwoLevels, WhatAGuestSaysCannotConfuse) {
  say({"| | | | @abyme up", "@abyme", "@abyme ", "@abyme nonsense", "@abyme measured cpuid_tenths_ns=abc",
       "@abyme measured cpuid_tenths_ns=99999999999999999999999", "@abyme ended status=", "\x1b[2J\x1b[", "|", "| ",
       "| @abyme starting kvm=x"});
  EXPECT_FALSE(progress.complete());
  EXPECT_EQ(progress.levels()[0].cpuid_ns, std::nullopt);
  for (const auto &line : progress.last_lines()) EXPECT_EQ(line.find('\x1b'), std::string::npos);
}

TEST_F(TwoLevels, OnlyTheLastLinesAreKept) {
  for (int i = 0; i < 1000; i++) say({"a line of the guest"});
  EXPECT_LE(progress.last_lines().size(), 20u);
}

} // namespace
} // namespace abyme::cli::nest
