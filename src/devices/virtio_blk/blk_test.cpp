#include "devices/virtio/guest_driver.hpp"
#include "devices/virtio_blk/blk.hpp"
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

namespace abyme::virtio {
namespace {

using namespace test;

// A file that is gone with its owner.
struct TemporaryFile {
  explicit TemporaryFile(off_t size) {
    fd = Fd(mkstemp(path.data()));
    EXPECT_EQ(ftruncate(fd.get(), size), 0);
  }
  ~TemporaryFile() { unlink(path.c_str()); }
  [[nodiscard]] std::string bytes(off_t at, std::size_t size) const {
    std::string text(size, '\0');
    EXPECT_EQ(pread(fd.get(), text.data(), size, at), static_cast<ssize_t>(size));
    return text;
  }
  std::string path = testing::TempDir() + "abyme-blk-XXXXXX";
  Fd fd;
};

enum : u32 { kIn = 0, kOut = 1, kFlush = 4, kGetId = 8, kDiscard = 11, kWriteZeroes = 13 };
enum : u8 { kOk = 0, kIoError = 1, kUnsupported = 2 };
constexpr u64 kAll = kVersion1 | kRingFeatures | 1ull << 9 | 1ull << 13 | 1ull << 14;

struct BlkTest : testing::Test {
  static constexpr u64 kSectors = 2048;
  TemporaryFile file{kSectors * 512};
  std::unique_ptr<Pc> pc = std::make_unique<Pc>(Blk::open({.path = file.path, .serial = "disk-0"}).value());
  std::unique_ptr<GuestDriver> driver = std::make_unique<GuestDriver>(*pc);

  void reopen(bool read_only) {
    driver.reset();
    pc.reset();
    pc = std::make_unique<Pc>(Blk::open({.path = file.path, .read_only = read_only}).value());
    driver = std::make_unique<GuestDriver>(*pc);
  }
  [[nodiscard]] Piece piece(std::string_view text) {
    const Gpa at = pc->allocate(text.size());
    EXPECT_TRUE(pc->memory->write(at, text.data(), text.size()));
    return {at, static_cast<u32>(text.size()), false};
  }
  [[nodiscard]] Piece room(u32 size) { return {pc->allocate(size), size, true}; }
  [[nodiscard]] Piece header(u32 type, u64 sector) {
    std::string text(16, '\0');
    std::memcpy(text.data(), &type, 4);
    std::memcpy(text.data() + 8, &sector, 8);
    return piece(text);
  }
  [[nodiscard]] Piece range(u64 sector, u32 sectors, u32 flags = 0) {
    std::string text(16, '\0');
    std::memcpy(text.data(), &sector, 8);
    std::memcpy(text.data() + 8, &sectors, 4);
    std::memcpy(text.data() + 12, &flags, 4);
    return piece(text);
  }
  [[nodiscard]] std::string text(const Piece &p) {
    return {reinterpret_cast<const char *>(pc->memory->host(p.at, p.size)), p.size};
  }
  // Sends header, `pieces` and room for the status; returns the status, 255 if it was not written.
  u8 send(u32 type, u64 sector, std::vector<Piece> pieces = {}, bool indirect = false) {
    pieces.insert(pieces.begin(), header(type, sector));
    pieces.push_back(room(1));
    u8 status = 255;
    EXPECT_TRUE(pc->memory->store(pieces.back().at, status));
    EXPECT_TRUE(driver->request(0, pieces, indirect));
    EXPECT_TRUE(pc->memory->load(pieces.back().at, status));
    return status;
  }
};

TEST_F(BlkTest, Configuration) {
  EXPECT_EQ(pc->config_read(0, 4), 0x1042'1af4u);
  EXPECT_EQ(driver->device_config(0, 8), kSectors);
  EXPECT_EQ(driver->device_config(0, 4), kSectors);
  EXPECT_EQ(driver->device_config(0x14, 4), 512u);
  EXPECT_EQ(driver->device_config(0x0c, 4), 254u);
  EXPECT_EQ(driver->device_config(0x38, 1), 1u);
  EXPECT_TRUE(driver->offered() & 1 << 9);
}

TEST_F(BlkTest, WritesAndReadsBack) {
  ASSERT_TRUE(driver->start(kAll, 1));
  const std::string data = std::string(512, 'a') + std::string(512, 'b');
  EXPECT_EQ(send(kOut, 3, {piece(data.substr(0, 100)), piece(data.substr(100))}), kOk);
  EXPECT_EQ(file.bytes(3 * 512, 1024), data);
  const Piece first = room(700), second = room(324);
  EXPECT_EQ(send(kIn, 3, {first, second}, true), kOk);
  EXPECT_EQ(text(first) + text(second), data);
  EXPECT_EQ(send(kFlush, 0), kOk);
}

TEST_F(BlkTest, ManyRequestsInFlight) {
  ASSERT_TRUE(driver->start(kAll, 1));
  std::map<u16, Piece> statuses;
  for (u64 i = 0; i < 60; ++i) {
    const Piece status = room(1);
    const std::array pieces{header(kOut, i), piece(std::string(512, static_cast<char>('A' + i))), status};
    statuses[driver->queue(0).add(pieces)] = status;
  }
  driver->kick(0);
  for (unsigned i = 0; i < 60; ++i) {
    const auto used = driver->queue(0).wait_used();
    ASSERT_TRUE(used);
    EXPECT_EQ(text(statuses.at(static_cast<u16>(used->id))), std::string(1, kOk));
  }
  EXPECT_EQ(file.bytes(59 * 512, 512), std::string(512, 'A' + 59));
}

// virtio 1.2 §2.7.4: header and status may be cut up or joined with data.
TEST_F(BlkTest, AnyFraming) {
  ASSERT_TRUE(driver->start(kAll, 1));
  ASSERT_EQ(pwrite(file.fd.get(), "xyz", 3, 5 * 512), 3);
  const Piece whole = header(kIn, 5), answer = room(513);
  const auto length = driver->request(
      0, std::array{Piece{whole.at, 4, false}, Piece{whole.at + 4, 11, false}, Piece{whole.at + 15, 1, false}, answer});
  EXPECT_EQ(length, 513u);
  EXPECT_EQ(text(answer).substr(0, 3), "xyz");
  EXPECT_EQ(text(answer).back(), char{kOk});
}

TEST_F(BlkTest, AnswersItsSerial) {
  ASSERT_TRUE(driver->start(kAll, 1));
  const Piece id = room(20);
  EXPECT_EQ(send(kGetId, 0, {id}), kOk);
  EXPECT_EQ(text(id), std::string("disk-0") + std::string(14, '\0'));
}

TEST_F(BlkTest, RefusesWhatIsBeyondTheDisk) {
  ASSERT_TRUE(driver->start(kAll, 1));
  EXPECT_EQ(send(kIn, kSectors, {room(512)}), kIoError);
  EXPECT_EQ(send(kIn, kSectors - 1, {room(1024)}), kIoError);
  EXPECT_EQ(send(kIn, ~0ull, {room(1024)}), kIoError);
  EXPECT_EQ(send(kIn, 1ull << 55, {room(512)}), kIoError);
  EXPECT_EQ(send(kOut, kSectors, {piece(std::string(512, 'x'))}), kIoError);
  EXPECT_EQ(send(kIn, 0, {room(100)}), kIoError) << "no whole sectors";
  EXPECT_EQ(send(99, 0), kUnsupported);
  EXPECT_EQ(send(kIn, kSectors - 1, {room(512)}), kOk);
}

TEST_F(BlkTest, DiscardsAndZeroes) {
  ASSERT_TRUE(driver->start(kAll, 1));
  const std::string data(512, 'd');
  for (u64 s = 0; s < 32; ++s) EXPECT_EQ(send(kOut, s, {piece(data)}), kOk);
  EXPECT_EQ(send(kDiscard, 0, {range(0, 8)}), kOk);
  EXPECT_EQ(send(kWriteZeroes, 0, {range(8, 1), range(12, 2, 1)}), kOk);
  const std::string zero(512, '\0');
  EXPECT_EQ(file.bytes(8 * 512, 512), zero);
  EXPECT_EQ(file.bytes(9 * 512, 512), data);
  EXPECT_EQ(file.bytes(12 * 512, 1024), zero + zero);
  EXPECT_EQ(file.bytes(14 * 512, 512), data);
  EXPECT_EQ(send(kDiscard, 0, {range(0, 8, 1)}), kUnsupported);
  EXPECT_EQ(send(kWriteZeroes, 0, {range(0, 8, 2)}), kUnsupported);
  EXPECT_EQ(send(kDiscard, 0, {range(kSectors, 1)}), kIoError);
  EXPECT_EQ(send(kDiscard, 0, {range(~0ull, 8)}), kIoError);
  EXPECT_EQ(send(kWriteZeroes, 0, {range(0, 0xffffffff)}), kIoError);
  EXPECT_EQ(send(kWriteZeroes, 0, {piece("short")}), kIoError);
}

TEST_F(BlkTest, ReadOnlyRefusesEveryChange) {
  reopen(true);
  const u64 offered = driver->offered();
  EXPECT_TRUE(offered & 1 << 5);
  EXPECT_FALSE(offered & (1 << 13 | 1 << 14));
  ASSERT_TRUE(driver->start(kVersion1, 1));
  EXPECT_EQ(send(kOut, 0, {piece(std::string(512, 'x'))}), kIoError);
  EXPECT_EQ(send(kDiscard, 0, {range(0, 1)}), kUnsupported);
  EXPECT_EQ(send(kWriteZeroes, 0, {range(0, 1)}), kUnsupported);
  EXPECT_EQ(send(kFlush, 0), kOk);
  EXPECT_EQ(send(kIn, 0, {room(512)}), kOk);
}

TEST_F(BlkTest, ARequestWithoutHeaderOrStatusNeedsAReset) {
  for (const auto &pieces : {std::vector{header(kIn, 0)}, std::vector{piece("short"), room(1)}}) {
    driver->reset();
    ASSERT_TRUE(driver->start(kAll, 1));
    const unsigned before = pc->interrupts.messages(GuestDriver::kMessage);
    driver->queue(0).add(pieces);
    driver->kick(0);
    EXPECT_TRUE(pc->interrupts.wait_message(GuestDriver::kMessage, before + 1));
    EXPECT_TRUE(driver->status() & GuestDriver::kNeedsReset);
  }
}

TEST_F(BlkTest, AFileThatShrankIsAnIoError) {
  ASSERT_TRUE(driver->start(kAll, 1));
  ASSERT_EQ(ftruncate(file.fd.get(), 512), 0);
  EXPECT_EQ(send(kIn, 8, {room(512)}), kIoError);
}

TEST_F(BlkTest, OneWriterOrManyReaders) {
  const auto second = Blk::open({.path = file.path});
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message.find("another VM uses it"), std::string::npos) << second.error().message;
  EXPECT_FALSE(Blk::open({.path = file.path, .read_only = true}));
  reopen(true);
  EXPECT_TRUE(Blk::open({.path = file.path, .read_only = true}));
  EXPECT_FALSE(Blk::open({.path = file.path}));
}

TEST(BlkOpen, SaysWhatIsWrongWithAFile) {
  const auto message = [](const std::string &path) {
    const auto opened = Blk::open({.path = path});
    return opened ? std::string("opened") : opened.error().message;
  };
  const TemporaryFile odd(1000), empty(0);
  EXPECT_NE(message(odd.path).find("1000 bytes, is not a multiple of 512; 'truncate -s 1024"), std::string::npos);
  EXPECT_NE(message(empty.path).find("empty"), std::string::npos);
  EXPECT_NE(message("/nowhere/at/all").find("No such file"), std::string::npos);
  EXPECT_NE(message("/dev/null").find("neither a regular file nor a block device"), std::string::npos);
  EXPECT_NE(message(testing::TempDir()).find("directory"), std::string::npos);
}

TEST_F(BlkTest, StateRoundTrip) {
  const TemporaryFile same(kSectors * 512), other(kSectors * 512 + 512);
  auto from = Blk::open({.path = same.path}).value();
  const auto state = from->save();
  EXPECT_TRUE(from->load(state));
  EXPECT_EQ(from->save(), state);
  auto to = Blk::open({.path = other.path}).value();
  EXPECT_NE(to->save(), state);
  EXPECT_FALSE(to->load(state));
}

} // namespace
} // namespace abyme::virtio
