#include "devices/fw_cfg/fw_cfg.hpp"
#include <gtest/gtest.h>

namespace abyme {
namespace {

class FwCfgTest : public testing::Test {
protected:
  FwCfgTest() {
    EXPECT_TRUE(device.add_file("opt/b", {1, 2, 3}));
    EXPECT_TRUE(device.add_file("etc/a", {9}));
    device.add_number(FwCfg::kCpus, 4, 2);
  }
  std::vector<u8> read(u16 key, size_t size) {
    bus.port_write(0x510, 2, key);
    std::vector<u8> bytes;
    for (size_t i = 0; i < size; ++i) bytes.push_back(static_cast<u8>(bus.port_read(0x511, 1)));
    return bytes;
  }
  // Runs a descriptor that lies at 0x1000 and returns its control field afterwards.
  u32 dma(u32 control, u32 length, u64 address) {
    const struct {
      u32 control, length;
      u64 address;
    } raw{__builtin_bswap32(control), __builtin_bswap32(length), __builtin_bswap64(address)};
    EXPECT_TRUE(memory->store(Gpa(0x1000), raw));
    bus.port_write(0x514, 4, 0);
    bus.port_write(0x518, 4, __builtin_bswap32(0x1000));
    u32 result = 0;
    EXPECT_TRUE(memory->load(Gpa(0x1000), result));
    return __builtin_bswap32(result);
  }
  using Bytes = std::vector<u8>;
  Bus bus;
  std::unique_ptr<GuestMemory> memory = std::move(*GuestMemory::create(64_KiB));
  FwCfg device{bus, *memory};
};

TEST_F(FwCfgTest, ShowsItsSignatureAndInterfaces) {
  EXPECT_EQ(read(0, 5), (Bytes{'Q', 'E', 'M', 'U', 0}));
  EXPECT_EQ(read(1, 4), (Bytes{3, 0, 0, 0}));
  EXPECT_EQ(read(5, 2), (Bytes{4, 0}));
  EXPECT_EQ(read(0x1234, 2), (Bytes{0, 0}));
  EXPECT_EQ(bus.port_read(0x514, 4), 0x554d4551u);
  EXPECT_EQ(bus.port_read(0x518, 4), 0x47464320u);
}

TEST_F(FwCfgTest, ListsFilesByName) {
  const Bytes directory = read(0x19, 4 + 2 * 64);
  EXPECT_EQ(directory[3], 2);
  EXPECT_EQ(Bytes(directory.begin() + 4, directory.begin() + 12), (Bytes{0, 0, 0, 1, 0, 0x20, 0, 0}));
  EXPECT_STREQ(reinterpret_cast<const char *>(&directory[12]), "etc/a");
  EXPECT_EQ(directory[4 + 64 + 3], 3);
  EXPECT_STREQ(reinterpret_cast<const char *>(&directory[12 + 64]), "opt/b");
  EXPECT_EQ(read(0x20, 2), (Bytes{9, 0}));
  EXPECT_EQ(read(0x21, 3), (Bytes{1, 2, 3}));
}

TEST_F(FwCfgTest, RefusesBadNames) {
  EXPECT_FALSE(device.add_file("", {}));
  EXPECT_FALSE(device.add_file("etc/a", {}));
  EXPECT_FALSE(device.add_file(std::string(56, 'x'), {}));
  EXPECT_TRUE(device.add_file(std::string(55, 'x'), {}));
}

TEST_F(FwCfgTest, TransfersByDma) {
  EXPECT_EQ(dma(0x21 << 16 | 8 | 2, 2, 0x2000), 0u);
  u32 value = 0;
  EXPECT_TRUE(memory->load(Gpa(0x2000), value));
  EXPECT_EQ(value, 0x0201u);
  EXPECT_TRUE(memory->store(Gpa(0x2000), ~0u));
  EXPECT_EQ(dma(2, 3, 0x2000), 0u); // goes on, and past the end
  EXPECT_TRUE(memory->load(Gpa(0x2000), value));
  EXPECT_EQ(value, 0xff000003u);
  EXPECT_EQ(dma(0x21 << 16 | 8 | 4, 2, 0), 0u); // select and skip
  EXPECT_EQ(bus.port_read(0x511, 1), 3u);
}

TEST_F(FwCfgTest, ReportsDmaErrors) {
  EXPECT_EQ(dma(0x21 << 16 | 8 | 2, 2, 0xfffffffffffffff0), 1u);
  EXPECT_EQ(dma(0x21 << 16 | 8 | 2, 0xffffffff, 0x8000), 1u);
  EXPECT_EQ(dma(0x21 << 16 | 8 | 16, 1, 0x2000), 1u); // writing
  bus.port_write(0x514, 4, 0xffffffff);
  bus.port_write(0x518, 4, 0xffffffff); // no RAM there
  bus.port_write(0x518, 2, 0);
}

TEST_F(FwCfgTest, RestoresWhatItSaved) {
  (void)read(0x21, 1);
  bus.port_write(0x514, 4, 0x01000000);
  const auto saved = device.save();
  device.reset();
  EXPECT_NE(device.save(), saved);
  device.restore(saved);
  EXPECT_EQ(device.save(), saved);
  EXPECT_EQ(bus.port_read(0x511, 1), 2u);
}

} // namespace
} // namespace abyme
