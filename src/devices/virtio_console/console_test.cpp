#include "devices/virtio/guest_driver.hpp"
#include "devices/virtio_console/console.hpp"
#include <condition_variable>
#include <gtest/gtest.h>

namespace abyme::virtio {
namespace {

using namespace test;

std::span<const u8> bytes(std::string_view text) { return {reinterpret_cast<const u8 *>(text.data()), text.size()}; }

struct ConsoleTest : testing::Test {
  static constexpr u64 kFeatures = kVersion1 | kRingFeatures | 1;
  std::mutex mutex;
  std::condition_variable changed;
  std::string out;
  unsigned rooms = 0;
  Console *console = nullptr;
  std::unique_ptr<Pc> pc = make();
  GuestDriver driver{*pc};

  [[nodiscard]] std::unique_ptr<Pc> make() {
    auto device = std::make_unique<Console>(ConsoleConfig{.output =
                                                              [this](std::span<const u8> b) {
                                                                const std::lock_guard lock(mutex);
                                                                out.append(b.begin(), b.end());
                                                                changed.notify_all();
                                                              },
                                                          .input_room =
                                                              [this] {
                                                                const std::lock_guard lock(mutex);
                                                                ++rooms;
                                                                changed.notify_all();
                                                              },
                                                          .columns = 80,
                                                          .rows = 25});
    console = device.get();
    return std::make_unique<Pc>(std::move(device));
  }
  template <class Condition> [[nodiscard]] bool wait(Condition condition) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, 5s, condition);
  }
  [[nodiscard]] std::string guest_text(Gpa at, u32 size) {
    return {reinterpret_cast<const char *>(pc->memory->host(at, size)), size};
  }
};

TEST_F(ConsoleTest, GuestWrites) {
  ASSERT_TRUE(driver.start(kFeatures, 2));
  const Gpa a = pc->allocate(5), b = pc->allocate(6);
  ASSERT_TRUE(pc->memory->write(a, "hello", 5) && pc->memory->write(b, " world", 6));
  EXPECT_EQ(driver.request(1, std::array{Piece{a, 5, false}, Piece{b, 6, false}}), 0u);
  EXPECT_TRUE(wait([this] { return out == "hello world"; }));
}

TEST_F(ConsoleTest, ALongWriteArrivesWhole) {
  ASSERT_TRUE(driver.start(kFeatures, 2));
  const u32 size = 1_MiB;
  const Gpa at = pc->allocate(size);
  for (u32 i = 0; i < size; ++i) pc->memory->host(at, size)[i] = static_cast<u8>('a' + i / 1000 % 26);
  EXPECT_EQ(driver.request(1, std::array{Piece{at, size, false}}), 0u);
  EXPECT_TRUE(wait([&] { return out.size() == size; }));
  EXPECT_EQ(out, guest_text(at, size));
}

TEST_F(ConsoleTest, GuestReads) {
  ASSERT_TRUE(driver.start(kFeatures, 2));
  const Gpa at = pc->allocate(16);
  driver.queue(0).add(std::array{Piece{at, 16, true}});
  driver.kick(0);
  EXPECT_EQ(console->receive(bytes("typed")), 5u);
  const auto used = driver.queue(0).wait_used();
  ASSERT_TRUE(used);
  EXPECT_EQ(guest_text(at, used->length), "typed");
}

TEST_F(ConsoleTest, InputWaitsForTheDriver) {
  EXPECT_EQ(console->receive(bytes("early")), 5u);
  ASSERT_TRUE(driver.start(kFeatures, 2));
  const Gpa at = pc->allocate(16);
  EXPECT_EQ(driver.request(0, std::array{Piece{at, 16, true}}), 5u);
  EXPECT_EQ(guest_text(at, 5), "early");
}

TEST_F(ConsoleTest, TakesNoMoreThanItHasRoomForAndSaysWhenThereIsSome) {
  ASSERT_TRUE(driver.start(kFeatures, 2));
  const std::string text(5000, 'x');
  EXPECT_EQ(console->receive(bytes(text)), Console::kInputRoom);
  EXPECT_EQ(console->receive(bytes("y")), 0u);
  EXPECT_EQ(driver.request(0, std::array{Piece{pc->allocate(100), 100, true}}), 100u);
  EXPECT_TRUE(wait([this] { return rooms == 1; }));
  EXPECT_EQ(console->receive(bytes(text)), 100u);
}

TEST_F(ConsoleTest, TellsItsSizeAndThatItChanged) {
  ASSERT_TRUE(driver.start(kFeatures, 2));
  EXPECT_EQ(driver.device_config(0, 2), 80u);
  EXPECT_EQ(driver.device_config(2, 2), 25u);
  const u64 generation = driver.common(0x15, 1);
  console->resize(132, 43);
  EXPECT_TRUE(pc->interrupts.wait_message(GuestDriver::kMessage));
  EXPECT_EQ(driver.device_config(0, 4), 43u << 16 | 132u);
  EXPECT_NE(driver.common(0x15, 1), generation);
}

TEST_F(ConsoleTest, StateRoundTrip) {
  const auto fresh = console->save();
  EXPECT_EQ(console->receive(bytes("kept")), 4u);
  const auto saved = console->save();
  EXPECT_NE(saved, fresh);
  Console other({.output = [](std::span<const u8>) {}});
  ASSERT_TRUE(other.load(saved));
  EXPECT_EQ(other.save(), saved);
  EXPECT_FALSE(other.load(std::span(saved).first(7)));
  auto hostile = saved;
  hostile[9] = 0xff; // size beyond the room
  EXPECT_FALSE(other.load(hostile));
}

} // namespace
} // namespace abyme::virtio
