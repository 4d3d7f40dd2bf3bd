#include "devices/virtio/guest_driver.hpp"
#include "devices/virtio_rng/rng.hpp"
#include <algorithm>
#include <gtest/gtest.h>

namespace abyme::virtio {
namespace {

using namespace test;

struct RngTest : testing::Test {
  Pc pc{std::make_unique<Rng>()};
  GuestDriver driver{pc};
};

TEST_F(RngTest, FillsEveryBuffer) {
  ASSERT_TRUE(driver.start(kVersion1, 1));
  const Piece pieces[] = {{pc.allocate(256), 256, true}, {pc.allocate(64), 64, true}};
  EXPECT_EQ(driver.request(0, pieces), 320u);
  const u8 *bytes = pc.memory->host(pieces[0].at, 256);
  EXPECT_GT(std::ranges::count_if(std::span(bytes, 256), [](u8 b) { return b != 0; }), 200);
}

TEST_F(RngTest, GivesAtMost64KiB) {
  ASSERT_TRUE(driver.start(kVersion1, 1));
  const Piece piece{pc.allocate(1_MiB), 1_MiB, true};
  EXPECT_EQ(driver.request(0, {&piece, 1}), 64_KiB);
}

TEST_F(RngTest, ARequestWithoutRoomNeedsAReset) {
  ASSERT_TRUE(driver.start(kVersion1, 1));
  driver.queue(0).add(std::array{Piece{pc.allocate(16), 16, false}});
  driver.kick(0);
  EXPECT_TRUE(pc.interrupts.wait_message(GuestDriver::kMessage));
}

TEST_F(RngTest, HasNoState) {
  Rng rng;
  EXPECT_TRUE(rng.save().empty());
  EXPECT_TRUE(rng.load({}));
  const u8 byte = 0;
  EXPECT_FALSE(rng.load({&byte, 1}));
}

} // namespace
} // namespace abyme::virtio
