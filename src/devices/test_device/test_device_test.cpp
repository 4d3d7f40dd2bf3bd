#include "devices/test_device/test_device.hpp"
#include <gtest/gtest.h>

namespace abyme {
namespace {

struct Wire : IrqLine {
  void set(bool l) override { level = l; }
  bool level = false;
};

class TestDeviceTest : public testing::Test {
protected:
  std::array<IrqLine *, 24> lines() {
    std::array<IrqLine *, 24> all{};
    for (unsigned i = 0; i < 24; ++i) all[i] = &wires[i];
    return all;
  }
  Bus bus;
  Wire wires[24];
  TestDevice device{bus, lines()};
};

TEST_F(TestDeviceTest, EchoesItsPorts) {
  bus.port_write(0xe0, 4, 0x12345678);
  EXPECT_EQ(bus.port_read(0xe0, 4), 0x12345678u);
  bus.port_write(0xe1, 2, 0xabcd);
  EXPECT_EQ(bus.port_read(0xe0, 4), 0x12abcd78u);
  EXPECT_EQ(bus.port_read(0xe3, 1), 0x12u);
  EXPECT_EQ(bus.port_read(0xe8, 4), 0x12abcd78u);
  bus.port_write(0xe4, 4, 0x1000);
}

TEST_F(TestDeviceTest, DrivesLines) {
  bus.port_write(0x200e, 1, 1);
  EXPECT_TRUE(wires[14].level);
  bus.port_write(0x200e, 4, 0);
  EXPECT_FALSE(wires[14].level);
  bus.port_write(0x2017, 1, 9);
  EXPECT_TRUE(wires[23].level);
}

TEST_F(TestDeviceTest, KeepsBytesBehindMmio) {
  bus.mmio_write(Gpa(0xff000ffe), 4, 0x11223344);
  EXPECT_EQ(bus.mmio_read(Gpa(0xff000ffe), 8), 0x11223344u);
  bus.mmio_write(Gpa(0xff00fff8), 8, ~0ull);
  EXPECT_EQ(bus.mmio_read(Gpa(0xff00fffc), 8), ~0ull); // half of it is nobody's
  EXPECT_EQ(bus.mmio_read(Gpa(0xff000fff), 1), 0x33u);
}

TEST_F(TestDeviceTest, RestoresWhatItSaved) {
  bus.port_write(0xe0, 4, 7);
  bus.port_write(0x2003, 1, 1);
  bus.mmio_write(Gpa(0xff000000), 1, 5);
  const auto saved = device.save();
  device.reset();
  EXPECT_FALSE(wires[3].level);
  EXPECT_NE(device.save(), saved);
  device.restore(saved);
  EXPECT_EQ(device.save(), saved);
  EXPECT_TRUE(wires[3].level);
}

} // namespace
} // namespace abyme
