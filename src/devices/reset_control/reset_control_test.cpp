#include "devices/reset_control/reset_control.hpp"
#include <gtest/gtest.h>

namespace abyme {
namespace {

struct Power : PowerSignals {
  void power_off() override {}
  void reset() override { ++resets; }
  void debug_exit(u8) override {}
  int resets = 0;
};

TEST(ResetControl, ResetsOnARisingResetCpu) {
  Power power;
  ResetControl control(power);
  control.write(0, 1, 2);
  EXPECT_EQ(power.resets, 0);
  control.write(0, 1, 6);
  control.write(0, 1, 6);
  EXPECT_EQ(power.resets, 1);
  EXPECT_EQ(control.read(0, 1), 6u);
  const auto saved = control.save();
  control.reset();
  EXPECT_NE(control.save(), saved);
  control.restore(saved);
  EXPECT_EQ(control.save(), saved);
}

} // namespace
} // namespace abyme
