#include "devices/i8259/pic.hpp"
#include <gtest/gtest.h>

namespace abyme {
namespace {

struct CountingSink : InterruptSink {
  void message(u64, u32) override {}
  void external_interrupt_changed() override { ++changes; }
  int changes = 0;
};

class PicTest : public testing::Test {
protected:
  PicTest() { initialize(); }
  void initialize(u8 word4 = 1) {
    for (const u16 port : {0x20, 0xa0}) {
      out(port, 0x11);
      out(port + 1, port == 0x20 ? 0x30 : 0x38);
      out(port + 1, port == 0x20 ? 4 : 2);
      out(port + 1, word4);
      out(port + 1, 0);
    }
  }
  void out(unsigned port, u8 value) { bus.port_write(static_cast<u16>(port), 1, value); }
  u8 in(unsigned port) { return static_cast<u8>(bus.port_read(static_cast<u16>(port), 1)); }
  void pulse(unsigned irq) {
    pic.set_irq(irq, true);
    pic.set_irq(irq, false);
  }
  Bus bus;
  CountingSink sink;
  Pic pic{bus, sink};
};

TEST_F(PicTest, GivesVectorsByPriorityAndWaitsForTheEoi) {
  pulse(4);
  pulse(1);
  EXPECT_TRUE(pic.pending());
  EXPECT_EQ(pic.acknowledge(), 0x31);
  EXPECT_FALSE(pic.pending()); // 4 waits
  pulse(0);
  EXPECT_EQ(pic.acknowledge(), 0x30); // higher: nests
  out(0x20, 0x0b);
  EXPECT_EQ(in(0x20), 0x03);
  out(0x20, 0x0a);
  EXPECT_EQ(in(0x20), 0x10);
  out(0x20, 0x20);
  EXPECT_FALSE(pic.pending());
  out(0x20, 0x61); // specific
  EXPECT_EQ(pic.acknowledge(), 0x34);
}

TEST_F(PicTest, CascadesTheSecondChip) {
  pulse(12);
  pulse(8);
  EXPECT_EQ(pic.acknowledge(), 0x38);
  EXPECT_FALSE(pic.pending());
  out(0xa0, 0x20);
  EXPECT_FALSE(pic.pending()); // the first chip still serves its pin 2
  out(0x20, 0x20);
  EXPECT_EQ(pic.acknowledge(), 0x3c);
}

TEST_F(PicTest, ReportsSpuriousInterruptsOnPin7) {
  pulse(4);
  out(0x21, 0x10);
  EXPECT_FALSE(pic.pending());
  EXPECT_EQ(pic.acknowledge(), 0x37);
  out(0x20, 0x0b);
  EXPECT_EQ(in(0x20), 0); // not in service
}

TEST_F(PicTest, WithdrawsTheCascadeWithItsCause) {
  pulse(10);
  EXPECT_TRUE(pic.pending());
  out(0xa1, 0x04);
  EXPECT_FALSE(pic.pending());
  out(0xa1, 0);
  EXPECT_EQ(pic.acknowledge(), 0x3a);
}

TEST_F(PicTest, MaskReadsBackAndHidesRequests) {
  out(0x21, 0xfb);
  EXPECT_EQ(in(0x21), 0xfb);
  pulse(4);
  EXPECT_FALSE(pic.pending());
  out(0x21, 0);
  EXPECT_TRUE(pic.pending());
  EXPECT_GE(sink.changes, 1);
}

TEST_F(PicTest, LevelTriggeredPinsAskAgainUntilReleased) {
  out(0x4d0, 0xff);
  EXPECT_EQ(in(0x4d0), 0xf8);
  pic.set_irq(5, true);
  EXPECT_EQ(pic.acknowledge(), 0x35);
  out(0x20, 0x20);
  EXPECT_TRUE(pic.pending());
  pic.set_irq(5, false);
  EXPECT_FALSE(pic.pending());
}

TEST_F(PicTest, EdgeTriggeredPinsAskOnce) {
  pic.set_irq(5, true);
  EXPECT_EQ(pic.acknowledge(), 0x35);
  out(0x20, 0x20);
  EXPECT_FALSE(pic.pending());
}

TEST_F(PicTest, RotatesPriorities) {
  pulse(3);
  EXPECT_EQ(pic.acknowledge(), 0x33);
  out(0x20, 0xa0); // rotate on EOI: 3 becomes the lowest
  pulse(3);
  pulse(4);
  EXPECT_EQ(pic.acknowledge(), 0x34);
  out(0x20, 0x20);
  out(0x20, 0xc7); // set priority: 7 is the lowest again
  pulse(0);
  EXPECT_EQ(pic.acknowledge(), 0x30);
}

TEST_F(PicTest, EndsByItselfWithAutoEoi) {
  initialize(3);
  pulse(6);
  pulse(6);
  EXPECT_EQ(pic.acknowledge(), 0x36);
  out(0x20, 0x0b);
  EXPECT_EQ(in(0x20), 0);
}

TEST_F(PicTest, SpecialMaskModeLetsLowerPrioritiesIn) {
  pulse(1);
  EXPECT_EQ(pic.acknowledge(), 0x31);
  pulse(6);
  EXPECT_FALSE(pic.pending());
  out(0x21, 0x02);
  out(0x20, 0x68);
  EXPECT_EQ(pic.acknowledge(), 0x36);
}

TEST_F(PicTest, Polls) {
  out(0x20, 0x0c);
  EXPECT_EQ(in(0x20), 0);
  pulse(6);
  out(0x20, 0x0c);
  EXPECT_EQ(in(0x20), 0x86);
  EXPECT_FALSE(pic.pending());
}

TEST_F(PicTest, RestoresWhatItSaved) {
  pulse(12);
  pulse(4);
  (void)pic.acknowledge();
  out(0x4d1, 0x0c);
  const auto saved = pic.save();
  pic.reset();
  EXPECT_FALSE(pic.pending());
  EXPECT_NE(pic.save(), saved);
  pic.restore(saved);
  EXPECT_EQ(pic.save(), saved);
  out(0xa0, 0x20);
  out(0x20, 0x20);
  EXPECT_EQ(pic.acknowledge(), 0x34);
}

} // namespace
} // namespace abyme
