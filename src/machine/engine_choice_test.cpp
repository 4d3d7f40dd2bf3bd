#include "machine/engine_choice.hpp"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace abyme::machine {
namespace {

using testing::HasSubstr;

kvm::ProbeResult good() {
  kvm::ProbeResult probe;
  probe.openable = probe.long_mode_reached = probe.runs_vector_code = probe.nested_vmx = true;
  probe.instructions_per_second = 1e9;
  return probe;
}

TEST(PickEngine, TakesKvmWhereItReallyRunsTheGuest) {
  EXPECT_EQ(pick_engine(good(), true).engine, Accel::Kvm);
  auto flat = good();
  flat.nested_vmx = false;
  EXPECT_EQ(pick_engine(flat, false).engine, Accel::Kvm);
}

TEST(PickEngine, TakesSoftAndSaysWhy) {
  auto probe = good();
  probe.nested_vmx = false;
  EXPECT_EQ(pick_engine(probe, true).engine, Accel::Soft);
  EXPECT_THAT(pick_engine(probe, true).reason, HasSubstr("-vmx"));
  probe = good();
  probe.instructions_per_second = 1e6;
  EXPECT_EQ(pick_engine(probe, true).engine, Accel::Soft);
  EXPECT_THAT(pick_engine(probe, true).reason, HasSubstr("1.0 million"));
  probe = {};
  probe.error = "/dev/kvm: Permission denied";
  EXPECT_EQ(pick_engine(probe, true).engine, Accel::Soft);
  EXPECT_THAT(pick_engine(probe, true).reason, HasSubstr("Permission denied"));
  probe = good();
  probe.runs_vector_code = false;
  probe.error = "no SSE";
  EXPECT_EQ(pick_engine(probe, false).engine, Accel::Soft);
}

TEST(ChooseEngine, AnswersWhatWasAsked) {
  MachineConfig config;
  config.accel = Accel::Soft;
  const auto choice = choose_engine(config);
  ASSERT_TRUE(choice) << choice.error().message;
  EXPECT_EQ(choice->engine, Accel::Soft);
  config.cpu = "pentium7";
  EXPECT_FALSE(choose_engine(config));
  config.accel = Accel::Kvm;
  config.trace = soft::TraceOptions{};
  EXPECT_THAT(choose_engine(config).error().message, HasSubstr("--accel soft"));
}

} // namespace
} // namespace abyme::machine
