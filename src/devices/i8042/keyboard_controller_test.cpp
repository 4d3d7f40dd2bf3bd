#include "devices/i8042/keyboard_controller.hpp"
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
struct Power : PowerSignals {
  void power_off() override {}
  void reset() override { ++resets; }
  void debug_exit(u8) override {}
  int resets = 0;
};

class KeyboardControllerTest : public testing::Test {
protected:
  void command(u8 value) { bus.port_write(0x64, 1, value); }
  void data(u8 value) { bus.port_write(0x60, 1, value); }
  u8 status() { return static_cast<u8>(bus.port_read(0x64, 1)); }
  std::vector<u8> answers() {
    std::vector<u8> all;
    while (status() & 1 && all.size() < 8) all.push_back(static_cast<u8>(bus.port_read(0x60, 1)));
    return all;
  }
  using Bytes = std::vector<u8>;
  Bus bus;
  Wire irq;
  Power power;
  KeyboardController controller{bus, irq, power};
};

TEST_F(KeyboardControllerTest, PassesTheUsualProbe) {
  EXPECT_EQ(status() & 3, 0);
  command(0xaa);
  EXPECT_EQ(answers(), Bytes{0x55});
  command(0x20);
  EXPECT_EQ(answers(), Bytes{0x45});
  command(0x60);
  data(0x44);
  command(0x20);
  EXPECT_EQ(answers(), Bytes{0x44});
  command(0xab);
  EXPECT_EQ(answers(), Bytes{0});
  command(0xa9);
  EXPECT_EQ(answers(), Bytes{1}); // no mouse
  command(0xd4);
  data(0xf2);
  EXPECT_EQ(answers(), Bytes{0xfe});
}

TEST_F(KeyboardControllerTest, HasAKeyboard) {
  data(0xff);
  EXPECT_EQ(answers(), (Bytes{0xfa, 0xaa}));
  EXPECT_EQ(irq.rises, 2);
  data(0xf2);
  EXPECT_EQ(answers(), (Bytes{0xfa, 0xab, 0x41}));
  data(0xed);
  EXPECT_EQ(answers(), Bytes{0xfa});
  data(0x07);
  EXPECT_EQ(answers(), Bytes{0xfa});
  data(0xee);
  EXPECT_EQ(answers(), Bytes{0xee});
}

TEST_F(KeyboardControllerTest, ResetsTheMachineInEachWay) {
  command(0xfe);
  EXPECT_EQ(power.resets, 1);
  command(0xff); // pulses nothing
  EXPECT_EQ(power.resets, 1);
  command(0xd1);
  data(0xce);
  EXPECT_EQ(power.resets, 2);
  bus.port_write(0x92, 1, 1);
  EXPECT_EQ(power.resets, 3);
}

TEST_F(KeyboardControllerTest, ReadsA20Back) {
  EXPECT_EQ(bus.port_read(0x92, 1), 2u);
  command(0xd1);
  data(0xdd);
  EXPECT_EQ(bus.port_read(0x92, 1), 0u);
  bus.port_write(0x92, 1, 2);
  command(0xd0);
  EXPECT_EQ(answers(), Bytes{0xdf});
}

TEST_F(KeyboardControllerTest, InterruptsOnlyWhereEnabled) {
  command(0x60);
  data(0x44);
  data(0xf4);
  EXPECT_FALSE(irq.level);
  EXPECT_EQ(answers(), Bytes{0xfa});
}

TEST_F(KeyboardControllerTest, RestoresWhatItSaved) {
  data(0xf2);
  command(0xd1);
  const auto saved = controller.save();
  controller.reset();
  EXPECT_NE(controller.save(), saved);
  controller.restore(saved);
  EXPECT_EQ(controller.save(), saved);
  EXPECT_EQ(answers(), (Bytes{0xfa, 0xab, 0x41}));
}

} // namespace
} // namespace abyme
