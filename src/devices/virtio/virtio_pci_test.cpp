#include "devices/virtio/guest_driver.hpp"
#include "devices/virtio_rng/rng.hpp"
#include <gtest/gtest.h>
#include <sys/eventfd.h>

namespace abyme::virtio {
namespace {

using namespace test;

// The entropy source is the smallest device behind the transport.
struct VirtioPciTest : testing::Test {
  Pc pc{std::make_unique<Rng>()};
  GuestDriver driver{pc};
  const Gpa buffer = pc.allocate(64);

  [[nodiscard]] std::optional<u32> ask(u32 size = 64) {
    const Piece piece{buffer, size, true};
    return driver.request(0, {&piece, 1});
  }
};

TEST_F(VirtioPciTest, IdentifiesItself) {
  EXPECT_EQ(pc.config_read(0, 4), 0x1044'1af4u);
  EXPECT_EQ(pc.config_read(8, 1), 1u);
  EXPECT_EQ(driver.common(0x12, 2), 1u); // queues
  EXPECT_EQ(driver.offered(), kVersion1 | kRingFeatures);
}

TEST_F(VirtioPciTest, ServesWithMessages) {
  ASSERT_TRUE(driver.start(kVersion1, 1));
  EXPECT_EQ(ask(), 64u);
  EXPECT_TRUE(pc.interrupts.wait_message(GuestDriver::kMessage + 1));
  EXPECT_EQ(driver.isr(), 0);
}

TEST_F(VirtioPciTest, ServesWithTheWire) {
  ASSERT_TRUE(driver.start(kVersion1 | kRingFeatures, 1, false));
  EXPECT_EQ(ask(), 64u);
  EXPECT_TRUE(pc.interrupts.wait_level(true));
  EXPECT_EQ(driver.isr(), 1);
  EXPECT_TRUE(pc.interrupts.wait_level(false));
  EXPECT_EQ(driver.isr(), 0);
}

TEST_F(VirtioPciTest, ServesManyRequestsWithEveryFeature) {
  for (const u64 features : {kVersion1, kVersion1 | kRingEventIdx, kVersion1 | kRingFeatures}) {
    driver.reset();
    ASSERT_TRUE(driver.start(features, 1));
    for (unsigned i = 0; i < 200; ++i) {
      const Piece piece{buffer, 64, true};
      ASSERT_EQ(driver.request(0, {&piece, 1}, features & kRingIndirectDesc), 64u) << i;
    }
  }
}

TEST_F(VirtioPciTest, ServesWhatWasAvailableBeforeDriverOk) {
  ASSERT_TRUE(driver.negotiate(kVersion1));
  driver.add_queue(0).add(std::array{Piece{buffer, 64, true}});
  driver.kick(0);
  EXPECT_FALSE(driver.queue(0).wait_used(20ms)) << "nothing is served before DRIVER_OK";
  driver.driver_ok();
  EXPECT_TRUE(driver.queue(0).wait_used());
}

TEST_F(VirtioPciTest, RefusesFeaturesThatItDoesNotOffer) {
  EXPECT_FALSE(driver.negotiate(kVersion1 | 1ull << 40));
  driver.reset();
  EXPECT_FALSE(driver.negotiate(kRingFeatures)) << "a driver from before 1.0";
  driver.driver_ok();
  EXPECT_FALSE(driver.status() & GuestDriver::kDriverOk) << "without FEATURES_OK";
}

TEST_F(VirtioPciTest, FeaturesAreFixedByFeaturesOk) {
  ASSERT_TRUE(driver.negotiate(kVersion1));
  driver.set_common(8, 4, 0);
  driver.set_common(12, 4, 0xffffffff);
  EXPECT_EQ(driver.common(12, 4), 0u);
}

TEST_F(VirtioPciTest, AnEnabledQueueIsFixed) {
  ASSERT_TRUE(driver.negotiate(kVersion1));
  driver.add_queue(0, 16);
  driver.set_common(0x18, 2, 32);
  driver.set_common(0x20, 4, 0x1234);
  EXPECT_EQ(driver.common(0x18, 2), 16u);
  EXPECT_NE(driver.common(0x20, 4), 0x1234u);
}

TEST_F(VirtioPciTest, QueueSizesArePowersOfTwoUpToTheMaximum) {
  for (const u64 size : {0, 3, 128, 0xffff}) {
    driver.set_common(0x18, 2, size);
    EXPECT_EQ(driver.common(0x18, 2), 64u) << size;
  }
  driver.set_common(0x18, 2, 32);
  EXPECT_EQ(driver.common(0x18, 2), 32u);
  driver.set_common(0x16, 2, 7);
  EXPECT_EQ(driver.common(0x18, 2), 0u) << "a queue that is not there";
}

TEST_F(VirtioPciTest, ResetForgetsAndServesAgain) {
  ASSERT_TRUE(driver.start(kVersion1, 1));
  EXPECT_EQ(ask(), 64u);
  driver.reset();
  EXPECT_EQ(driver.status(), 0);
  driver.set_common(0x16, 2, 0);
  EXPECT_EQ(driver.common(0x1c, 2), 0u);
  EXPECT_EQ(driver.common(0x1a, 2), 0xffffu);
  ASSERT_TRUE(driver.start(kVersion1, 1));
  EXPECT_EQ(ask(), 64u);
}

TEST_F(VirtioPciTest, MachineResetResetsTheDevice) {
  ASSERT_TRUE(driver.start(kVersion1, 1));
  {
    const auto lock = pc.bus.lock();
    pc.function->reset();
  }
  GuestDriver again(pc);
  EXPECT_EQ(again.status(), 0);
}

TEST_F(VirtioPciTest, ABrokenQueueNeedsAReset) {
  ASSERT_TRUE(driver.start(kVersion1, 1));
  EXPECT_FALSE(driver.status() & GuestDriver::kNeedsReset);
  driver.queue(0).write_descriptor(0, 0xffff'ffff'0000, 64, 2, 0);
  driver.queue(0).make_available(0);
  driver.kick(0);
  EXPECT_TRUE(pc.interrupts.wait_message(GuestDriver::kMessage));
  EXPECT_TRUE(driver.status() & GuestDriver::kNeedsReset);
  driver.reset();
  ASSERT_TRUE(driver.start(kVersion1, 1));
  EXPECT_EQ(ask(), 64u);
}

TEST_F(VirtioPciTest, QueuesOutsideOfRamNeedAReset) {
  ASSERT_TRUE(driver.negotiate(kVersion1));
  driver.set_common(0x16, 2, 0);
  driver.set_common(0x20, 4, 0xd000'0000);
  driver.set_common(0x1c, 2, 1);
  driver.driver_ok();
  EXPECT_TRUE(driver.status() & GuestDriver::kNeedsReset);
}

TEST_F(VirtioPciTest, VectorsThatAreNotThereReadAsNone) {
  driver.set_common(0x10, 2, 2);
  EXPECT_EQ(driver.common(0x10, 2), 0xffffu);
  driver.set_common(0x10, 2, 1);
  EXPECT_EQ(driver.common(0x10, 2), 1u);
}

// virtio 1.2 §4.1.4.9
TEST_F(VirtioPciTest, TheConfigurationWindowReachesTheRegisters) {
  const unsigned window = driver.window_capability();
  ASSERT_NE(window, 0u);
  const auto aim = [&](u32 bar, u32 offset, u32 length) {
    pc.config_write(window + 4, 1, bar);
    pc.config_write(window + 8, 4, offset);
    pc.config_write(window + 12, 4, length);
  };
  aim(0, 0x12, 2);
  EXPECT_EQ(pc.config_read(window + 16, 2), 1u);
  aim(0, 0x14, 1);
  pc.config_write(window + 16, 1, 1);
  EXPECT_EQ(driver.status(), 1);
  aim(0, 0x3fff, 4);
  EXPECT_EQ(pc.config_read(window + 16, 4), 0u);
  aim(1, 0, 4);
  EXPECT_EQ(pc.config_read(window + 16, 4), 0u);
  aim(0, 0x10, 4);
  EXPECT_NE(pc.config_read(window + 16, 4), 0u);
  EXPECT_EQ(pc.config_read(window + 16, 1), 0u) << "narrower than the window's length";
  aim(0, 0, 0xffff'ffff);
  EXPECT_EQ(pc.config_read(window + 16, 4), 0u);
}

TEST_F(VirtioPciTest, AnyRegisterAccessIsHarmless) {
  const Gpa bar(pc.config_read(0x10, 4) & ~0xfu);
  u64 seed = 1;
  for (unsigned i = 0; i < 20000; ++i) {
    seed = seed * 6364136223846793005 + 1442695040888963407;
    const unsigned size = 1u << (seed >> 60 & 3);
    const Gpa at = bar + (seed >> 33 & (i % 2 ? 0x3fff : 0x3f));
    if (seed >> 59 & 1)
      (void)pc.bus.mmio_read(at, size);
    else
      pc.bus.mmio_write(at, size, seed >> 20);
  }
  driver.reset();
  ASSERT_TRUE(driver.start(kVersion1, 1));
  EXPECT_EQ(ask(), 64u);
}

TEST_F(VirtioPciTest, DoorbellsFollowTheBar) {
  DoorbellEngine engine;
  pc.function->connect(engine);
  ASSERT_TRUE(driver.start(kVersion1, 1));
  const Gpa at = driver.doorbell(0);
  ASSERT_TRUE(engine.doorbells.contains(at.value));
  driver.queue(0).add(std::array{Piece{buffer, 8, true}});
  eventfd_write(engine.doorbells[at.value], 1);
  EXPECT_TRUE(driver.queue(0).wait_used());
  pc.config_write(0x10, 4, 0xd000'0000);
  EXPECT_EQ(engine.doorbells.size(), 1u);
  EXPECT_TRUE(engine.doorbells.contains(driver.doorbell(0).value));
  pc.config_write(4, 2, 0);
  EXPECT_TRUE(engine.doorbells.empty());
  pc.function->disconnect();
}

TEST_F(VirtioPciTest, ADeviceServedHereUsesNoIrqfds) {
  DoorbellEngine engine;
  pc.function->connect(engine);
  ASSERT_TRUE(driver.start(kVersion1, 1));
  EXPECT_TRUE(engine.irqfds.empty());
  pc.function->disconnect();
}

TEST_F(VirtioPciTest, StateRoundTrip) {
  ASSERT_TRUE(driver.start(kVersion1 | kRingEventIdx, 1));
  EXPECT_EQ(ask(), 64u);
  Pc other(std::make_unique<Rng>());
  VirtioPci::State fresh, state;
  {
    const auto lock = other.bus.lock();
    fresh = other.function->save();
  }
  {
    const auto lock = pc.bus.lock();
    pc.function->pause();
    state = pc.function->save();
    pc.function->resume();
  }
  EXPECT_NE(state, fresh) << "a change changes the snapshot";
  EXPECT_EQ(state.queues[0].position, (QueuePosition{1, 1}));
  const auto ram = pc.memory->regions()[0];
  ASSERT_TRUE(other.memory->write(Gpa(0), ram.host, ram.size));
  {
    const auto lock = other.bus.lock();
    ASSERT_TRUE(other.function->restore(state));
    other.function->pause();
    EXPECT_EQ(other.function->save(), state);
    other.function->resume();
  }
  EXPECT_EQ(ask(), 64u) << "the first goes on";
  // The second goes on where the first was saved: its driver's memory is the first's.
  const u16 next = 2;
  const Gpa available = state.queues[0].setup.available;
  u16 head = 1;
  ASSERT_TRUE(other.memory->store(state.queues[0].setup.descriptors + 16, buffer.value));
  const u32 length = 64;
  const u16 flags[2] = {2, 0};
  ASSERT_TRUE(other.memory->store(state.queues[0].setup.descriptors + 24, length));
  ASSERT_TRUE(other.memory->store(state.queues[0].setup.descriptors + 28, flags));
  ASSERT_TRUE(other.memory->store(available + 6, head));
  ASSERT_TRUE(other.memory->store(available + 2, next));
  GuestDriver second(other);
  second.kick(0);
  EXPECT_TRUE(other.interrupts.wait_message(GuestDriver::kMessage + 1));
}

TEST_F(VirtioPciTest, RestoreRefusesAnotherDevicesState) {
  VirtioPci::State state = pc.function->save();
  state.queues.emplace_back();
  const auto lock = pc.bus.lock();
  EXPECT_FALSE(pc.function->restore(state));
}

} // namespace
} // namespace abyme::virtio
