#include "devices/debug_exit/debug_exit.hpp"
#include <gtest/gtest.h>

namespace abyme {
namespace {

struct Power : PowerSignals {
  void power_off() override {}
  void reset() override {}
  void debug_exit(u8 value) override { values.push_back(value); }
  std::vector<u8> values;
};

TEST(DebugExit, PassesTheValueOn) {
  Bus bus;
  Power power;
  DebugExit device(bus, power);
  bus.port_write(0xf4, 1, 0x10);
  bus.port_write(0xf4, 4, 0x31);
  EXPECT_EQ(power.values, (std::vector<u8>{0x10, 0x31}));
  EXPECT_EQ(bus.port_read(0xf4, 1), 0u);
}

} // namespace
} // namespace abyme
