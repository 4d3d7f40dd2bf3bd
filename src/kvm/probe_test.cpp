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

TEST(Probe, AutoTakesKvmOnlyForWhatItCanRun) {
  ProbeResult good{.openable = true,
                   .long_mode_reached = true,
                   .runs_vector_code = true,
                   .instructions_per_second = 1e9,
                   .nested_vmx = true,
                   .vendor = "GenuineIntel",
                   .module = "kvm_intel",
                   .error = ""};
  EXPECT_EQ(refusal(good, true), "");
  auto flat = good;
  flat.nested_vmx = false;
  EXPECT_EQ(refusal(flat, false), "");
  EXPECT_THAT(refusal(flat, true), HasSubstr("nested VT-x"));
  auto slow = good;
  slow.instructions_per_second = 2e6, slow.error = "too slow";
  EXPECT_EQ(refusal(slow, true), "too slow");
  ProbeResult absent;
  absent.error = "no /dev/kvm";
  EXPECT_EQ(refusal(absent, false), "no /dev/kvm");
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
