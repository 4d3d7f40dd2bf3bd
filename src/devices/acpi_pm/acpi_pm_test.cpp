#include "devices/acpi_pm/acpi_pm.hpp"
#include <gtest/gtest.h>

namespace abyme {
namespace {

struct Wire : IrqLine {
  void set(bool l) override { level = l; }
  bool level = false;
};
struct Power : PowerSignals {
  void power_off() override { ++offs; }
  void reset() override {}
  void debug_exit(u8) override {}
  int offs = 0;
};

class AcpiPmTest : public testing::Test {
protected:
  Bus bus;
  FakeClock clock;
  FakeTimers timers{clock};
  Wire sci;
  Power power;
  AcpiPm pm{bus, timers, sci, power, {}};
};

TEST_F(AcpiPmTest, IsInAcpiMode) { EXPECT_EQ(bus.port_read(0x604, 2), 1u); }

TEST_F(AcpiPmTest, PowersOffWithSleepEnableAndTheRightType) {
  bus.port_write(0x604, 2, 1 << 10);           // type without enable
  bus.port_write(0x604, 2, 1 << 13 | 1 << 10); // S3, which is not offered
  EXPECT_EQ(power.offs, 0);
  EXPECT_EQ(bus.port_read(0x604, 2), 1u | 1 << 10); // SLP_EN reads as zero
  bus.port_write(0x604, 2, 1 << 13);
  EXPECT_EQ(power.offs, 1);
}

TEST_F(AcpiPmTest, PowersOffBySingleBytes) {
  bus.port_write(0x604, 1, 0);
  bus.port_write(0x605, 1, 0x20);
  EXPECT_EQ(power.offs, 1);
}

TEST_F(AcpiPmTest, TimerRunsAtItsFrequencyInTwentyFourBits) {
  timers.advance(1'000'000'000);
  EXPECT_EQ(bus.port_read(0x608, 4), 3'579'545u);
  EXPECT_EQ(bus.port_read(0x609, 1), 3'579'545u >> 8 & 0xff);
  timers.advance(4'000'000'000);
  EXPECT_EQ(bus.port_read(0x608, 4), 5 * 3'579'545u - (1u << 24));
  bus.port_write(0x608, 4, 0);
  EXPECT_NE(bus.port_read(0x608, 4), 0u);
}

TEST_F(AcpiPmTest, TimerInThirtyTwoBits) {
  AcpiPm wide(bus, timers, sci, power, {.port = 0x700, .timer_bits = 32});
  timers.advance(10'000'000'000);
  EXPECT_EQ(bus.port_read(0x708, 4), 35'795'450u);
}

TEST_F(AcpiPmTest, TimerRaisesTheSciWhenItsTopBitChanges) {
  bus.port_write(0x602, 2, 1);
  timers.advance(2'343'484'000); // 2^23 ticks take 2.34348 s
  EXPECT_FALSE(sci.level);
  timers.advance(1'000);
  EXPECT_TRUE(sci.level);
  EXPECT_EQ(bus.port_read(0x600, 2), 1u);
  bus.port_write(0x600, 2, 1);
  EXPECT_FALSE(sci.level);
  timers.advance(2'343'485'000);
  EXPECT_TRUE(sci.level);
  bus.port_write(0x602, 2, 0);
  EXPECT_FALSE(sci.level);
}

TEST_F(AcpiPmTest, PowerButtonRaisesTheSciWhereEnabled) {
  pm.press_power_button();
  EXPECT_FALSE(sci.level);
  EXPECT_EQ(bus.port_read(0x600, 4), 0x100u);
  bus.port_write(0x602, 2, 0xffff);
  EXPECT_EQ(bus.port_read(0x602, 2), 0x721u);
  EXPECT_TRUE(sci.level);
  bus.port_write(0x600, 2, 0x100);
  EXPECT_FALSE(sci.level);
}

TEST_F(AcpiPmTest, RestoresWhatItSaved) {
  bus.port_write(0x602, 2, 0x101);
  pm.press_power_button();
  timers.advance(1'000'000'000);
  const auto saved = pm.save();
  timers.advance(500'000'000);
  pm.reset();
  EXPECT_FALSE(sci.level);
  EXPECT_NE(pm.save(), saved);
  pm.restore(saved);
  EXPECT_EQ(pm.save(), saved);
  EXPECT_TRUE(sci.level);
  EXPECT_EQ(bus.port_read(0x608, 4), 3'579'545u);
}

} // namespace
} // namespace abyme
