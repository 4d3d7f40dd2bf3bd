#include "devices/mc146818/calendar.hpp"
#include "devices/mc146818/rtc.hpp"
#include <gtest/gtest.h>

namespace abyme {
namespace {

struct Wire : IrqLine {
  void set(bool l) override { level = l; }
  bool level = false;
};

constexpr Nanoseconds kSecond = 1'000'000'000;
constexpr u64 kStart = 1'709'251'199; // 2024-02-29 23:59:59 UTC, a Thursday

class RtcTest : public testing::Test {
protected:
  RtcTest() {
    clock.set_wall(kStart);
    rtc = std::make_unique<Rtc>(bus, timers, irq);
  }
  u8 get(u8 index) {
    bus.port_write(0x70, 1, index);
    return static_cast<u8>(bus.port_read(0x71, 1));
  }
  void set(u8 index, u8 value) { bus.port_write(0x70, 2, static_cast<u32>(index | value << 8)); }
  Bus bus;
  FakeClock clock;
  FakeTimers timers{clock};
  Wire irq;
  std::unique_ptr<Rtc> rtc;
};

TEST(Calendar, GoesThereAndBack) {
  for (const i64 t : {i64{0}, i64{951'782'400}, i64{1'709'251'199}, i64{4'107'542'400}, i64{-86'401}})
    EXPECT_EQ(from_calendar(to_calendar(t)), t);
  EXPECT_EQ(to_calendar(951'782'400), (CalendarTime{.year = 2000, .month = 2, .day = 29, .weekday = 2}));
  EXPECT_EQ(from_calendar({.year = 2023, .month = 13, .day = 1}), from_calendar({.year = 2024, .month = 1, .day = 1}));
}

TEST_F(RtcTest, TellsTheTimeInBcd) {
  EXPECT_EQ(get(0), 0x59);
  EXPECT_EQ(get(2), 0x59);
  EXPECT_EQ(get(4), 0x23);
  EXPECT_EQ(get(6), 5);
  EXPECT_EQ(get(7), 0x29);
  EXPECT_EQ(get(8), 2);
  EXPECT_EQ(get(9), 0x24);
  EXPECT_EQ(get(0x32), 0x20);
  EXPECT_EQ(get(0xd), 0x80);
  timers.advance(kSecond);
  EXPECT_EQ(get(0), 0);
  EXPECT_EQ(get(7), 1);
  EXPECT_EQ(get(8), 3);
}

TEST_F(RtcTest, TellsTheTimeInBinaryAndInTwelveHours) {
  set(0xb, 0x04);
  EXPECT_EQ(get(0), 59);
  EXPECT_EQ(get(4), 0x80 | 11);
  timers.advance(kSecond);
  EXPECT_EQ(get(4), 12); // midnight
}

TEST_F(RtcTest, WarnsBeforeAnUpdate) {
  EXPECT_EQ(get(0xa), 0x26);
  timers.advance(kSecond - 100'000);
  EXPECT_EQ(get(0xa), 0xa6);
  timers.advance(100'000);
  EXPECT_EQ(get(0xa), 0x26);
}

TEST_F(RtcTest, IsSetWhileStopped) {
  set(0xb, 0x82);
  timers.advance(5 * kSecond);
  EXPECT_EQ(get(0), 0x59);
  set(9, 0x30);
  set(0, 0x10);
  EXPECT_EQ(get(9), 0x30);
  set(0xb, 0x02);
  EXPECT_EQ(get(0), 0x10);
  timers.advance(kSecond);
  EXPECT_EQ(get(0), 0x11);
  EXPECT_EQ(get(9), 0x30);
  EXPECT_EQ(get(2), 0x59);
}

TEST_F(RtcTest, TakesNonsenseForATime) {
  set(0xb, 0x86);
  for (u8 index : {0, 2, 4, 6, 7, 8, 9, 0x32}) set(index, 0xff);
  set(0xb, 0x06);
  (void)get(0);
  timers.advance(10 * kSecond);
  (void)get(0xc);
}

TEST_F(RtcTest, InterruptsAtEachUpdate) {
  set(0xb, 0x12);
  timers.advance(kSecond);
  EXPECT_TRUE(irq.level);
  EXPECT_EQ(get(0xc), 0xf0); // the other flags need no enable: it is midnight, the alarm's reset value
  EXPECT_FALSE(irq.level);
  EXPECT_EQ(get(0xc), 0);
  timers.advance(kSecond);
  EXPECT_TRUE(irq.level);
}

TEST_F(RtcTest, InterruptsPeriodically) {
  set(0xb, 0x42); // at 1024 Hz
  int seen = 0;
  for (int i = 0; i < 10'240; ++i) {
    timers.advance(kSecond / 10'240 + 1);
    if (irq.level) ++seen, (void)get(0xc);
  }
  EXPECT_EQ(seen, 1024);
  set(0xa, 0x20); // no rate
  timers.advance(kSecond);
  EXPECT_FALSE(irq.level);
}

TEST_F(RtcTest, InterruptsAtTheAlarm) {
  set(1, 0x03);
  set(3, 0x00);
  set(5, 0xff); // any hour
  set(0xb, 0x22);
  timers.advance(3 * kSecond);
  EXPECT_FALSE(irq.level);
  timers.advance(kSecond);
  EXPECT_TRUE(irq.level);
  EXPECT_EQ(get(0xc) & 0xb0, 0xb0);
  timers.advance(60 * kSecond);
  EXPECT_FALSE(irq.level);
  timers.advance(3540 * kSecond);
  EXPECT_TRUE(irq.level);
}

TEST_F(RtcTest, TellsFirmwareFacts) {
  rtc->set_memory(3_GiB, 2_GiB);
  rtc->set_cpus(4);
  EXPECT_EQ(get(0x15) | get(0x16) << 8, 640);
  EXPECT_EQ(get(0x30) | get(0x31) << 8, 0xffff);
  EXPECT_EQ(get(0x34) | get(0x35) << 8, (3072 - 16) * 16);
  EXPECT_EQ(get(0x5b) | get(0x5c) << 8 | get(0x5d) << 16, 2048 * 16);
  EXPECT_EQ(get(0x5f), 3);
  rtc->set_memory(16_MiB, 0);
  EXPECT_EQ(get(0x17) | get(0x18) << 8, 15 * 1024);
  EXPECT_EQ(get(0x34), 0);
}

TEST_F(RtcTest, ResetKeepsTimeAndMemory) {
  set(0x40, 0x77);
  set(0xb, 0x72);
  rtc->reset();
  EXPECT_EQ(get(0xb), 0x02);
  EXPECT_EQ(get(0x40), 0x77);
}

TEST_F(RtcTest, RestoresWhatItSaved) {
  set(9, 0x35);
  set(0x40, 0x77);
  set(0xb, 0x12);
  timers.advance(kSecond);
  EXPECT_TRUE(irq.level);
  const auto saved = rtc->save();
  set(9, 0x36);
  set(0x40, 0);
  (void)get(0xc);
  EXPECT_NE(rtc->save(), saved);
  rtc->restore(saved);
  EXPECT_EQ(rtc->save(), saved);
  EXPECT_TRUE(irq.level);
  EXPECT_EQ(get(9), 0x35);
}

} // namespace
} // namespace abyme
