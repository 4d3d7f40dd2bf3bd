#include "kvm/probe.hpp"
#include "kvm/system.hpp"
#include <chrono>
#include <gmock/gmock.h>

namespace abyme::kvm {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(Probe, SaysWhatItFoundInTime) {
  const auto start = std::chrono::steady_clock::now();
  const auto result = probe();
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
  EXPECT_EQ(result.vendor.size(), 12u);
  RecordProperty("instructions_per_second", std::to_string(result.instructions_per_second));
  if (!result.openable) {
    EXPECT_THAT(result.error, HasSubstr("--accel soft"));
    GTEST_SKIP() << result.error;
  }
  EXPECT_EQ(result.error.empty(), result.runs_natively()) << result.error;
  EXPECT_EQ(result.instructions_per_second > 0, result.long_mode_reached);
}

TEST(Probe, RunsNothingForAGuestThatCannotBeHad) {
  const auto result = probe(true);
  if (result.nested_vmx) GTEST_SKIP() << "KVM here offers VT-x";
  EXPECT_FALSE(result.long_mode_reached);
}

TEST(System, WhatCannotBeOpenedIsExplained) {
  const auto absent = System::open("/dev/kvm-that-is-not");
  ASSERT_FALSE(absent);
  EXPECT_THAT(absent.error().message, AllOf(HasSubstr("modprobe"), HasSubstr("--accel soft")));
  const auto other = System::open("/dev/null");
  ASSERT_FALSE(other);
  EXPECT_THAT(other.error().message, HasSubstr("API"));
}

} // namespace
} // namespace abyme::kvm
