#include "devices/ioapic/ioapic.hpp"
#include "devices/irq_router/irq_router.hpp"
#include <gtest/gtest.h>

namespace abyme {
namespace {

struct RecordingSink : InterruptSink {
  void message(u64 address, u32 data) override { messages.emplace_back(address, data); }
  void external_interrupt_changed() override {}
  std::vector<std::pair<u64, u32>> messages;
  using Messages = std::vector<std::pair<u64, u32>>;
};

class IoApicTest : public testing::Test {
protected:
  void select(u8 reg) { bus.mmio_write(IoApic::kBase, 4, reg); }
  u32 get(u8 reg) {
    select(reg);
    return static_cast<u32>(bus.mmio_read(IoApic::kBase + 0x10, 4));
  }
  void set(u8 reg, u32 value) {
    select(reg);
    bus.mmio_write(IoApic::kBase + 0x10, 4, value);
  }
  void route(unsigned pin, u64 entry) {
    set(static_cast<u8>(0x10 + pin * 2 + 1), static_cast<u32>(entry >> 32));
    set(static_cast<u8>(0x10 + pin * 2), static_cast<u32>(entry));
  }
  size_t sent() const { return sink.messages.size(); }
  Bus bus;
  RecordingSink sink;
  IoApic ioapic{bus, sink};
};

TEST_F(IoApicTest, HasItsResetState) {
  EXPECT_EQ(get(1), 0x00170020u);
  set(0, 0xffffffff);
  EXPECT_EQ(get(0), 0x0f000000u);
  for (unsigned pin = 0; pin < 24; ++pin) EXPECT_EQ(get(static_cast<u8>(0x10 + 2 * pin)), 0x10000u);
  EXPECT_EQ(get(0x40), 0xffffffffu);
  set(0x10, 0xffffffff);
  EXPECT_EQ(get(0x10), 0x1afffu); // remote IRR and delivery status are read-only
  EXPECT_EQ(bus.mmio_read(IoApic::kBase, 1), 0x10u);
}

TEST_F(IoApicTest, SendsOneMessageAnEdge) {
  route(4, 3ull << 56 | 0x41);
  ioapic.set_pin(4, true);
  ioapic.set_pin(4, true);
  ioapic.set_pin(4, false);
  ioapic.set_pin(4, true);
  EXPECT_EQ(sink.messages, (RecordingSink::Messages{{0xfee03000, 0x4041}, {0xfee03000, 0x4041}}));
}

TEST_F(IoApicTest, IgnoresEdgesWhileMasked) {
  route(4, 0x10041);
  ioapic.set_pin(4, true);
  route(4, 0x41);
  EXPECT_EQ(sent(), 0u);
}

TEST_F(IoApicTest, SendsALevelAgainAfterEachEoiWhileItLasts) {
  route(17, 0x8051);
  ioapic.set_pin(17, true);
  EXPECT_EQ(sink.messages, (RecordingSink::Messages{{0xfee00000, 0xc051}}));
  EXPECT_EQ(get(0x10 + 34), 0xc051u); // remote IRR
  ioapic.end_of_interrupt(0x50);
  EXPECT_EQ(sent(), 1u);
  ioapic.end_of_interrupt(0x51);
  EXPECT_EQ(sent(), 2u);
  ioapic.set_pin(17, false);
  ioapic.end_of_interrupt(0x51);
  EXPECT_EQ(sent(), 2u);
  EXPECT_EQ(get(0x10 + 34), 0x8051u);
  ioapic.set_pin(17, true);
  bus.mmio_write(IoApic::kBase + 0x40, 4, 0x51);
  EXPECT_EQ(sent(), 4u);
}

TEST_F(IoApicTest, SendsALevelWhenItIsUnmasked) {
  route(17, 0x18051);
  ioapic.set_pin(17, true);
  EXPECT_EQ(sent(), 0u);
  route(17, 0x8051);
  EXPECT_EQ(sent(), 1u);
}

TEST_F(IoApicTest, SwitchingToEdgeClearsRemoteIrr) {
  route(17, 0x8051);
  ioapic.set_pin(17, true);
  route(17, 0x10051);
  route(17, 0x8051);
  EXPECT_EQ(sent(), 2u);
}

TEST_F(IoApicTest, TranslatesDeliveryAndDestinationModes) {
  route(3, 0x0full << 56 | 0x961); // lowest priority, logical
  ioapic.set_pin(3, true);
  EXPECT_EQ(sink.messages.back(), (std::pair<u64, u32>{0xfee0f00c, 0x4161}));
}

TEST_F(IoApicTest, IgnoresPinsThatAreNotThere) {
  ioapic.set_pin(24, true);
  EXPECT_EQ(ioapic.save().lines, 0u);
}

TEST_F(IoApicTest, RestoresWhatItSaved) {
  set(0, 5 << 24);
  route(17, 2ull << 56 | 0x8051);
  ioapic.set_pin(17, true);
  const auto saved = ioapic.save();
  ioapic.set_pin(17, false);
  ioapic.reset();
  EXPECT_NE(ioapic.save(), saved);
  ioapic.restore(saved);
  EXPECT_EQ(ioapic.save(), saved);
  ioapic.end_of_interrupt(0x51);
  EXPECT_EQ(sent(), 2u);
}

class IrqRouterTest : public IoApicTest {
protected:
  Pic pic{bus, sink};
  IrqRouter router{pic, ioapic};
};

TEST_F(IrqRouterTest, FeedsIsaIrqsToBothControllers) {
  router.isa(4).set(true);
  router.isa(0).set(true);
  router.isa(9).set(true);
  EXPECT_EQ(ioapic.save().lines, 1u << 4 | 1u << 2 | 1u << 9);
  EXPECT_EQ(pic.save().master.lines & ~4, 1u << 4 | 1u);
  EXPECT_EQ(pic.save().slave.lines, 1u << 1);
}

TEST_F(IrqRouterTest, OrsTheWiresOfALine) {
  IrqLine &a = router.gsi(19), &b = router.gsi(19);
  a.set(true);
  b.set(true);
  b.set(true);
  a.set(false);
  EXPECT_EQ(ioapic.save().lines, 1u << 19);
  b.set(false);
  EXPECT_EQ(ioapic.save().lines, 0u);
  EXPECT_EQ(pic.save(), Pic::State{});
}

} // namespace
} // namespace abyme
