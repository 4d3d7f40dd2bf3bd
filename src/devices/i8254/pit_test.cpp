#include "devices/i8254/pit.hpp"
#include <gtest/gtest.h>

namespace abyme {
namespace {

struct Wire : IrqLine {
  void set(bool l) override {
    if (l && !level) ++rises;
    level = l;
  }
  bool level = false;
  int rises = 0;
};

constexpr Nanoseconds kTicks1193 = 999'848; // the time of 1193 ticks, rounded up

class PitTest : public testing::Test {
protected:
  void out(u16 port, u8 value) { bus.port_write(port, 1, value); }
  u8 in(u16 port) { return static_cast<u8>(bus.port_read(port, 1)); }
  void load(unsigned channel, u8 control, u16 count) {
    out(0x43, static_cast<u8>(channel << 6 | control));
    out(static_cast<u16>(0x40 + channel), static_cast<u8>(count));
    out(static_cast<u16>(0x40 + channel), static_cast<u8>(count >> 8));
  }
  u16 count(unsigned channel) {
    const u16 port = static_cast<u16>(0x40 + channel);
    const u8 low = in(port);
    return static_cast<u16>(low | in(port) << 8);
  }
  Bus bus;
  FakeClock clock;
  FakeTimers timers{clock};
  Wire irq;
  Pit pit{bus, timers, irq};
};

TEST_F(PitTest, StandsStillUntilProgrammed) {
  timers.advance(1'000'000'000);
  EXPECT_EQ(irq.rises, 0);
}

TEST_F(PitTest, RateGeneratorInterruptsEachPeriod) {
  load(0, 0x34, 11932); // 100 Hz
  timers.advance(1'000'100'000);
  EXPECT_EQ(irq.rises, 100);
}

TEST_F(PitTest, SquareWaveInterruptsEachPeriod) {
  load(0, 0x36, 0); // 65536: 18.2 Hz
  timers.advance(1'000'000'000);
  EXPECT_EQ(irq.rises, 18);
}

TEST_F(PitTest, TerminalCountInterruptsOnce) {
  load(0, 0x30, 1193);
  EXPECT_FALSE(irq.level);
  timers.advance(kTicks1193 - 1);
  EXPECT_FALSE(irq.level);
  timers.advance(1);
  EXPECT_TRUE(irq.level);
  timers.advance(1'000'000'000);
  EXPECT_EQ(irq.rises, 1);
  load(0, 0x30, 1193);
  EXPECT_FALSE(irq.level);
}

TEST_F(PitTest, StrobeInterruptsOnceAfterTheCount) {
  load(0, 0x38, 1192);
  timers.advance(kTicks1193 - 1);
  EXPECT_EQ(irq.rises, 0);
  timers.advance(1'000'000'000);
  EXPECT_EQ(irq.rises, 1);
}

TEST_F(PitTest, AnAbsurdRateDoesNotStormTheHost) {
  load(0, 0x34, 1);
  timers.advance(1'000'000'000);
  EXPECT_LE(irq.rises, 20'001);
  EXPECT_GT(irq.rises, 10'000);
}

TEST_F(PitTest, CountsDownReadably) {
  load(0, 0x34, 10000);
  timers.advance(kTicks1193);
  EXPECT_EQ(count(0), 10000 - 1193);
  out(0x43, 0x00); // latch
  timers.advance(kTicks1193);
  EXPECT_EQ(count(0), 10000 - 1193);
  EXPECT_EQ(count(0), 10000 - 2386);
  out(0x43, 0x54); // channel 1, low byte only
  out(0x41, 50);
  EXPECT_EQ(in(0x41), 50);
  load(0, 0x30, 100); // mode 0 wraps
  timers.advance(kTicks1193);
  EXPECT_EQ(count(0), static_cast<u16>(100 - 1193));
}

TEST_F(PitTest, CountsInBcd) {
  load(0, 0x35, 0x5000);
  timers.advance(kTicks1193);
  EXPECT_EQ(count(0), 0x3807);
}

TEST_F(PitTest, ReadsBackStatusAndCount) {
  load(0, 0x34, 1000);
  out(0x43, 0xc2); // status and count of channel 0
  EXPECT_EQ(in(0x40), 0xb4);
  EXPECT_EQ(count(0), 1000);
  out(0x43, 0x34);
  out(0x43, 0xe2);
  EXPECT_EQ(in(0x40) & 0x40, 0x40); // null count: nothing loaded yet
}

// As a kernel measures its TSC: gate on, speaker off, mode 0, poll the output.
TEST_F(PitTest, Channel2CalibratesThroughPort61) {
  out(0x61, 0x01);
  load(2, 0x30, 1193);
  EXPECT_EQ(in(0x61) & 0x23, 0x01);
  timers.advance(kTicks1193 - 1);
  EXPECT_EQ(in(0x61) & 0x20, 0x00);
  timers.advance(1);
  EXPECT_EQ(in(0x61) & 0x20, 0x20);
}

TEST_F(PitTest, Channel2StandsWhileItsGateIsLow) {
  load(2, 0x30, 10000);
  timers.advance(kTicks1193);
  EXPECT_EQ(count(2), 10000);
  out(0x61, 1);
  timers.advance(kTicks1193);
  EXPECT_EQ(count(2), 10000 - 1193);
  out(0x61, 0);
  timers.advance(kTicks1193);
  EXPECT_EQ(count(2), 10000 - 1193);
  load(2, 0x32, 1193); // mode 1 starts with the gate
  EXPECT_EQ(in(0x61) & 0x20, 0x20);
  out(0x61, 1);
  EXPECT_EQ(in(0x61) & 0x20, 0x00);
  timers.advance(kTicks1193);
  EXPECT_EQ(in(0x61) & 0x20, 0x20);
}

TEST_F(PitTest, RestoresWhatItSaved) {
  load(0, 0x34, 11932);
  load(2, 0xb6, 500);
  timers.advance(25'000'000);
  const auto saved = pit.save();
  pit.reset();
  EXPECT_NE(pit.save(), saved);
  pit.restore(saved);
  EXPECT_EQ(pit.save(), saved);
  const int before = irq.rises;
  timers.advance(5'100'000); // the rest of the third period
  EXPECT_EQ(irq.rises, before + 1);
}

} // namespace
} // namespace abyme
