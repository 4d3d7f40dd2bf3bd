#include "devices/uart16550/uart.hpp"
#include <gtest/gtest.h>

namespace abyme {
namespace {

struct Wire : IrqLine {
  void set(bool l) override { level = l; }
  bool level = false;
};

class UartTest : public testing::Test {
protected:
  static constexpr u16 kPort = 0x3f8;
  enum { kData, kIer, kIir, kLcr, kMcr, kLsr, kMsr, kScratch, kFcr = kIir };
  void out(unsigned reg, u8 value) { bus.port_write(static_cast<u16>(kPort + reg), 1, value); }
  u8 in(unsigned reg) { return static_cast<u8>(bus.port_read(static_cast<u16>(kPort + reg), 1)); }
  size_t receive(std::string_view text) {
    return uart.receive({reinterpret_cast<const u8 *>(text.data()), text.size()});
  }

  Bus bus;
  Wire irq;
  std::string sent;
  int rooms = 0;
  Uart16550 uart{bus,
                 kPort,
                 irq,
                 {.output = [this](std::span<const u8> b) { sent.append(b.begin(), b.end()); },
                  .input_room = [this] { ++rooms; }}};
};

TEST_F(UartTest, HasItsResetState) {
  EXPECT_EQ(in(kIer), 0);
  EXPECT_EQ(in(kIir), 1);
  EXPECT_EQ(in(kLcr), 0);
  EXPECT_EQ(in(kMcr), 0);
  EXPECT_EQ(in(kLsr), 0x60);
  EXPECT_EQ(in(kMsr)&0xf0, 0xb0);
}

TEST_F(UartTest, SendsUnlessTheDivisorLatchIsOpen) {
  out(kData, 'h');
  out(kLcr, 0x83);
  out(kData, 1);
  out(kIer, 0);
  EXPECT_EQ(in(kData), 1);
  EXPECT_EQ(in(kIer), 0);
  out(kLcr, 3);
  out(kData, 'i');
  EXPECT_EQ(sent, "hi");
  EXPECT_EQ(in(kLsr), 0x60);
}

TEST_F(UartTest, ShowsItsFifosToTheUsualProbe) {
  out(kFcr, 1);
  EXPECT_EQ(in(kIir) >> 6, 3);
  out(kFcr, 0);
  EXPECT_EQ(in(kIir) >> 6, 0);
  out(kScratch, 0xa5);
  EXPECT_EQ(in(kScratch), 0xa5);
}

TEST_F(UartTest, TransmitInterruptComesOnEnableAndAfterEachByte) {
  out(kMcr, 8);
  out(kIer, 2);
  EXPECT_TRUE(irq.level);
  EXPECT_EQ(in(kIir), 2);
  EXPECT_FALSE(irq.level);
  EXPECT_EQ(in(kIir), 1);
  out(kData, 'x');
  EXPECT_TRUE(irq.level);
  out(kMcr, 0); // OUT2 gates it
  EXPECT_FALSE(irq.level);
}

TEST_F(UartTest, ReceivesIntoTheFifoWithItsTriggerLevel) {
  out(kMcr, 8);
  out(kFcr, 0x41); // trigger at 4
  out(kIer, 1);
  EXPECT_EQ(receive("abc"), 3u);
  EXPECT_TRUE(irq.level);
  EXPECT_EQ(in(kIir), 0xcc);
  EXPECT_EQ(receive("d"), 1u);
  EXPECT_EQ(in(kIir), 0xc4);
  EXPECT_EQ(in(kLsr), 0x61);
  for (const char c : {'a', 'b', 'c', 'd'}) EXPECT_EQ(in(kData), c);
  EXPECT_FALSE(irq.level);
  EXPECT_EQ(in(kLsr), 0x60);
}

TEST_F(UartTest, TakesWhatItHasRoomForAndTellsWhenThereIsMore) {
  EXPECT_EQ(receive("ab"), 1u);
  EXPECT_EQ(rooms, 0);
  EXPECT_EQ(in(kData), 'a');
  EXPECT_EQ(rooms, 1);
  out(kFcr, 1);
  EXPECT_EQ(receive("0123456789abcdefXYZ"), 16u);
  EXPECT_EQ(receive("X"), 0u);
  out(kFcr, 3); // clears the receive FIFO
  EXPECT_EQ(rooms, 2);
  EXPECT_EQ(in(kLsr), 0x60);
}

TEST_F(UartTest, LoopsBack) {
  out(kMcr, 0x10 | 0x0a);
  EXPECT_EQ(in(kMsr)&0xf0, 0x90);
  out(kData, 'q');
  EXPECT_EQ(sent, "");
  EXPECT_EQ(in(kLsr), 0x61);
  out(kData, 'r'); // no room without FIFOs
  EXPECT_EQ(in(kLsr), 0x63);
  EXPECT_EQ(in(kLsr), 0x61); // reading cleared the error
  EXPECT_EQ(in(kData), 'q');
  EXPECT_EQ(receive("x"), 0u);
}

TEST_F(UartTest, ReportsChangesOfTheModemLines) {
  out(kMcr, 0x10 | 0x0f);
  (void)in(kMsr);
  out(kMcr, 0x10);
  EXPECT_EQ(in(kMsr), 0x0f); // deltas of CTS, DSR, DCD and the trailing edge of RI
  EXPECT_EQ(in(kMsr), 0x00);
}

TEST_F(UartTest, OrdersItsInterrupts) {
  out(kIer, 0xf);
  out(kMcr, 0x1f);
  out(kMcr, 0x1d); // CTS changes
  out(kData, '1');
  out(kData, '2'); // overrun
  EXPECT_EQ(in(kIir), 6);
  (void)in(kLsr);
  EXPECT_EQ(in(kIir), 4);
  (void)in(kData);
  EXPECT_EQ(in(kIir), 2);
  EXPECT_EQ(in(kIir), 0);
  (void)in(kMsr);
  EXPECT_EQ(in(kIir), 1);
}

TEST_F(UartTest, RestoresWhatItSaved) {
  out(kMcr, 8);
  out(kFcr, 0x81);
  out(kIer, 5);
  out(kScratch, 9);
  EXPECT_EQ(receive("hello"), 5u);
  const auto saved = uart.save();
  uart.reset();
  EXPECT_FALSE(irq.level);
  EXPECT_NE(uart.save(), saved);
  uart.restore(saved);
  EXPECT_EQ(uart.save(), saved);
  EXPECT_TRUE(irq.level);
  EXPECT_EQ(in(kData), 'h');
}

} // namespace
} // namespace abyme
