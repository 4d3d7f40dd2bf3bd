#include "bus/bus.hpp"
#include "bus/byte_registers.hpp"
#include <fmt/format.h>
#include <future>
#include <gtest/gtest.h>

namespace abyme {
namespace {

// Answers reads with its own letter in every byte and writes down each access.
class Recorder : public RegisterBlock {
public:
  explicit Recorder(u8 fill = 0x11) : fill_(fill) {}
  u64 read(u64 offset, unsigned size) override {
    log.push_back(fmt::format("r{}/{}", offset, size));
    return 0x0101010101010101ull * fill_;
  }
  void write(u64 offset, unsigned size, u64 value) override {
    log.push_back(fmt::format("w{}/{}={:x}", offset, size, value));
  }
  std::vector<std::string> log;

private:
  u8 fill_;
};

using Log = std::vector<std::string>;

TEST(Bus, ReadsAllOnesAndSwallowsWritesWhereNobodyIs) {
  Bus bus;
  EXPECT_EQ(bus.port_read(0x80, 1), 0xffu);
  EXPECT_EQ(bus.port_read(0xfffe, 4), 0xffffffffu);
  EXPECT_EQ(bus.mmio_read(Gpa(0xe0000000), 8), ~0ull);
  EXPECT_EQ(bus.mmio_read(Gpa(~0ull), 4), 0xffffffffu);
  bus.port_write(0x80, 1, 5);
  bus.mmio_write(Gpa(0xe0000000), 8, 5);
}

TEST(Bus, RoutesWithTheOffsetInsideTheBlock) {
  Bus bus;
  Recorder ports, memory;
  bus.add_ports(0x3f8, 8, ports);
  bus.add_mmio(Gpa(0xfec00000), 0x1000, memory);
  EXPECT_EQ(bus.port_read(0x3f9, 2), 0x1111u);
  bus.port_write(0x3ff, 1, 0x1234);
  EXPECT_EQ(bus.mmio_read(Gpa(0xfec00010), 4), 0x11111111u);
  bus.mmio_write(Gpa(0xfec00ff8), 8, 7);
  EXPECT_EQ(ports.log, (Log{"r1/2", "w7/1=34"}));
  EXPECT_EQ(memory.log, (Log{"r16/4", "w4088/8=7"}));
}

TEST(Bus, SplitsWhatStraddlesIntoBytes) {
  Bus bus;
  Recorder low(0x11), high(0x22);
  bus.add_ports(0x100, 2, low);
  bus.add_ports(0x102, 1, high);
  EXPECT_EQ(bus.port_read(0x101, 4), 0xffff2211u);
  bus.port_write(0x101, 4, 0x44332211);
  EXPECT_EQ(low.log, (Log{"r1/1", "w1/1=11"}));
  EXPECT_EQ(high.log, (Log{"r0/1", "w0/1=22"}));
}

TEST(Bus, GivesAnOverlapToTheOlderBlockAndTheRestToTheNewer) {
  Bus bus;
  Recorder old(0x11), young(0x22);
  bus.add_mmio(Gpa(0x2000), 0x1000, old);
  bus.add_mmio(Gpa(0x1000), 0x3000, young);
  EXPECT_EQ(bus.mmio_read(Gpa(0x1ffc), 4), 0x22222222u);
  EXPECT_EQ(bus.mmio_read(Gpa(0x2000), 4), 0x11111111u);
  EXPECT_EQ(bus.mmio_read(Gpa(0x3000), 4), 0x22222222u);
  EXPECT_EQ(young.log.back(), "r8192/4");
  bus.remove_mmio(Gpa(0x2000), old);
  EXPECT_EQ(bus.mmio_read(Gpa(0x2000), 4), 0x22222222u);
  bus.remove_mmio(Gpa(0x1000), young);
  EXPECT_EQ(bus.mmio_read(Gpa(0x2000), 4), 0xffffffffu);
}

TEST(Bus, ClaimsNothingBetweenBlocks) {
  Bus bus;
  Recorder low(0x11), high(0x22);
  bus.add_ports(0x10, 4, low);
  bus.add_ports(0x20, 4, high);
  EXPECT_EQ(bus.port_read(0x14, 1), 0xffu);
  EXPECT_EQ(bus.port_read(0x1f, 1), 0xffu);
  EXPECT_EQ(bus.port_read(0x20, 1), 0x22u);
}

TEST(Bus, TakesRangesThatEndAtTheTopOfTheSpace) {
  Bus bus;
  Recorder block;
  bus.add_mmio(Gpa(~0ull - 0xfff), 0x1000, block);
  bus.add_mmio(Gpa(~0ull - 0xff), 0x1000, block); // would wrap
  bus.add_ports(0xfff0, 0x100, block);
  EXPECT_EQ(bus.mmio_read(Gpa(~0ull - 3), 4), 0x11111111u);
  EXPECT_EQ(bus.mmio_read(Gpa(0), 4), 0xffffffffu);
  EXPECT_EQ(bus.port_read(0xffff, 4), 0xffffff11u);
  EXPECT_EQ(bus.port_read(0, 1), 0xffu);
}

TEST(Bus, HoldsTheLockDuringDispatch) {
  struct Prober : RegisterBlock {
    explicit Prober(Bus &b) : bus(b) {}
    u64 read(u64, unsigned) override {
      return std::async(std::launch::async, [this] { return bus.try_lock().owns_lock() ? 1 : 0; }).get();
    }
    void write(u64, unsigned, u64) override {}
    Bus &bus;
  };
  Bus bus;
  Prober prober(bus);
  bus.add_ports(0x10, 1, prober);
  EXPECT_EQ(bus.port_read(0x10, 1), 0u);
  EXPECT_TRUE(bus.try_lock().owns_lock());
}

TEST(ByteRegisters, TakesAWideAccessApartLowestFirst) {
  struct Bytes : ByteRegisters {
    u8 read_byte(u64 offset) override { return static_cast<u8>(0xa0 + offset); }
    void write_byte(u64 offset, u8 value) override { log.push_back(fmt::format("{}={:x}", offset, value)); }
    Log log;
  } bytes;
  EXPECT_EQ(static_cast<RegisterBlock &>(bytes).read(1, 4), 0xa4a3a2a1u);
  static_cast<RegisterBlock &>(bytes).write(0, 2, 0x1234);
  EXPECT_EQ(bytes.log, (Log{"0=34", "1=12"}));
}

} // namespace
} // namespace abyme
