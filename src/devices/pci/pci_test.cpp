#include "devices/pci/config_space.hpp"
#include "devices/pci/pci_host.hpp"
#include <gtest/gtest.h>

namespace abyme {
namespace {

struct RecordingSink : InterruptSink {
  void message(u64 address, u32 data) override { messages.push_back({address, data}); }
  void external_interrupt_changed() override {}
  std::vector<MsiMessage> messages;
};

struct Wire : IrqLine {
  void set(bool l) override { level = l; }
  bool level = false;
};

struct Scratch : RegisterBlock {
  u64 read(u64, unsigned) override { return value; }
  void write(u64, unsigned, u64 v) override { value = v; }
  u64 value = 0x5a5a5a5a;
};

class TestFunction : public PciFunction {
public:
  TestFunction(Bus &bus, InterruptSink &sink)
      : PciFunction(bus, sink,
                    {.vendor = 0x1af4,
                     .device = 0x1042,
                     .revision = 1,
                     .class_code = 0x018000,
                     .subsystem_vendor = 0x1af4,
                     .subsystem = 0x1100}) {
    add_bar(0, BarKind::Memory64Prefetchable, 0x4000, registers);
    add_bar(3, BarKind::Memory32, 0x10, registers);
    const std::array<u8, 2> body{0x12, 0x34}, writable{0xff, 0};
    capability = add_capability(9, body, writable);
    add_msix(2, 3);
    overlay_config(0xf0, 4, registers);
  }
  using PciFunction::msix;
  using PciFunction::notify;
  using PciFunction::set_intx;
  Scratch registers;
  u8 capability;
};

class Pci : public testing::Test {
protected:
  Pci() { EXPECT_TRUE(host.attach(3, function, wire)); }
  u32 config(unsigned offset, unsigned size = 4) {
    bus.port_write(0xcf8, 4, 0x80000000u | 3 << 11 | (offset & 0xfc));
    return bus.port_read(static_cast<u16>(0xcfc + (offset & 3)), size);
  }
  void set_config(unsigned offset, unsigned size, u32 value) {
    bus.port_write(0xcf8, 4, 0x80000000u | 3 << 11 | (offset & 0xfc));
    bus.port_write(static_cast<u16>(0xcfc + (offset & 3)), size, value);
  }
  Gpa ecam(unsigned slot, unsigned offset) { return PciHost::kEcam + (slot << 15) + offset; }
  void enable_msix(u16 more = 0) {
    set_config(pci::kCommand, 2, pci::kCommandMemory | pci::kCommandMaster);
    set_config(msix_at() + 2, 2, pci::kMsixEnable | more);
  }
  unsigned msix_at() { return config(function.capability + 1u, 1); }
  Gpa table() { return function.bar_address(2); }
  void set_entry(unsigned vector, u64 address, u32 data, u32 control) {
    bus.mmio_write(table() + vector * 16, 8, address);
    bus.mmio_write(table() + vector * 16 + 8, 4, data);
    bus.mmio_write(table() + vector * 16 + 12, 4, control);
  }

  Bus bus;
  RecordingSink sink;
  Wire wire;
  Scratch reset_control;
  PciHost host{bus, sink, reset_control};
  TestFunction function{bus, sink};
};

TEST_F(Pci, ShowsTheHeaderThroughBothMechanisms) {
  EXPECT_EQ(config(0), 0x10421af4u);
  EXPECT_EQ(config(8), 0x01800001u);
  EXPECT_EQ(config(0x2c), 0x11001af4u);
  EXPECT_EQ(config(2, 2), 0x1042u);
  EXPECT_EQ(bus.mmio_read(ecam(3, 0), 8) & 0xffffffff, 0x10421af4u);
  EXPECT_EQ(bus.mmio_read(ecam(0, 0), 4), 0x29c08086u);
  EXPECT_EQ(bus.mmio_read(ecam(4, 0), 4), 0xffffffffu);
  EXPECT_EQ(bus.mmio_read(ecam(3, 0x100), 4), 0xffffffffu);
  EXPECT_EQ(bus.mmio_read(PciHost::kEcam + (1 << 20), 2), 0xffffu);
  set_config(0, 4, 0);
  EXPECT_EQ(config(0), 0x10421af4u);
}

TEST_F(Pci, AnswersOnlyWhenEnabledAndKeepsTheAddress) {
  bus.port_write(0xcf8, 4, 3 << 11);
  EXPECT_EQ(bus.port_read(0xcfc, 4), 0xffffffffu);
  bus.port_write(0xcf8, 4, 0xffffffff);
  EXPECT_EQ(bus.port_read(0xcf8, 4), 0x80fffffcu);
  bus.port_write(0xcf8, 1, 0); // not a dword: not the address register
  EXPECT_EQ(bus.port_read(0xcf8, 4), 0x80fffffcu);
}

TEST_F(Pci, LeavesPort0xcf9ToTheResetControl) {
  bus.port_write(0xcf9, 1, 6);
  EXPECT_EQ(reset_control.value, 6u);
  EXPECT_EQ(bus.port_read(0xcf9, 1), 6u);
}

TEST_F(Pci, SizesAndMovesBars) {
  const Gpa first = function.bar_address(0);
  EXPECT_GE(first, PciHost::kWindowStart);
  EXPECT_EQ(config(0x10) & 0xf, 0xcu);
  EXPECT_EQ(bus.mmio_read(first, 4), 0x5a5a5a5au);
  set_config(0x10, 4, 0xffffffff);
  set_config(0x14, 4, 0xffffffff);
  EXPECT_EQ(config(0x10), 0xffffc00cu);
  EXPECT_EQ(config(0x14), 0xffffffffu);
  EXPECT_EQ(bus.mmio_read(first, 4), 0xffffffffu);
  set_config(0x14, 4, 2);
  set_config(0x10, 4, 0xd0000123);
  EXPECT_EQ(bus.mmio_read(Gpa(0x2d0000000), 4), 0x5a5a5a5au);
  set_config(0x1c, 4, 0xffffffff);
  EXPECT_EQ(config(0x1c), 0xfffffff0u);
  set_config(0x20, 4, 0xffffffff);
  EXPECT_EQ(config(0x20), 0u); // no such BAR
  set_config(pci::kCommand, 2, 0);
  EXPECT_EQ(bus.mmio_read(Gpa(0x2d0000000), 4), 0xffffffffu);
  host.reset();
  EXPECT_EQ(function.bar_address(0), first);
  EXPECT_EQ(bus.mmio_read(first, 4), 0x5a5a5a5au);
}

TEST_F(Pci, LinksCapabilitiesAndGuardsTheirBits) {
  EXPECT_EQ(config(pci::kStatus, 2) & 0x10, 0x10u);
  EXPECT_EQ(config(pci::kCapabilities, 1), function.capability);
  EXPECT_EQ(config(function.capability, 1), 9u);
  set_config(function.capability + 2u, 2, 0xaaaa);
  EXPECT_EQ(config(function.capability + 2u, 2), 0x34aau);
  EXPECT_EQ(config(msix_at(), 2), 0x0011u); // the last one
  EXPECT_EQ(config(msix_at() + 2, 2), 2u);  // three vectors
  EXPECT_EQ(config(msix_at() + 4), 2u);     // BAR 2, offset 0
  EXPECT_EQ(config(msix_at() + 8), 0x1002u);
}

TEST_F(Pci, SendsOverlaidConfigurationToItsBlock) {
  set_config(0xf0, 4, 77);
  EXPECT_EQ(function.registers.value, 77u);
  EXPECT_EQ(config(0xf2, 1), 77u);
}

TEST_F(Pci, SendsMsixOnlyWhenEnabledAndUnmasked) {
  EXPECT_FALSE(function.notify(0));
  enable_msix();
  set_entry(1, 0xfee01000, 0x41, 0);
  EXPECT_TRUE(function.notify(1));
  EXPECT_TRUE(function.notify(7)); // no such vector
  EXPECT_EQ(sink.messages, (std::vector<MsiMessage>{{0xfee01000, 0x41}}));
  EXPECT_FALSE(function.msix()->message(0));
  EXPECT_TRUE(function.msix()->message(1));
}

TEST_F(Pci, KeepsMaskedVectorsPendingUntilUnmasked) {
  enable_msix();
  set_entry(2, 0xfee00000, 0x50, 1);
  EXPECT_TRUE(function.notify(2));
  EXPECT_TRUE(function.notify(2));
  EXPECT_TRUE(sink.messages.empty());
  EXPECT_EQ(bus.mmio_read(table() + 0x1000, 8), 4u);
  bus.mmio_write(table() + 2 * 16 + 12, 4, 0);
  EXPECT_EQ(sink.messages.size(), 1u);
  EXPECT_EQ(bus.mmio_read(table() + 0x1000, 8), 0u);
  set_config(msix_at() + 2, 2, pci::kMsixEnable | pci::kMsixFunctionMask);
  EXPECT_TRUE(function.notify(2));
  EXPECT_EQ(sink.messages.size(), 1u);
  set_config(msix_at() + 2, 2, pci::kMsixEnable);
  EXPECT_EQ(sink.messages.size(), 2u);
}

TEST_F(Pci, NeedsBusMasterForMessages) {
  enable_msix();
  set_entry(0, 0xfee00000, 0x50, 0);
  set_config(pci::kCommand, 2, pci::kCommandMemory);
  EXPECT_TRUE(function.notify(0));
  EXPECT_TRUE(sink.messages.empty());
}

TEST_F(Pci, TakesPartialAndOddTableAccesses) {
  const Gpa at = table();
  bus.mmio_write(at + 2, 1, 0xe0);
  bus.mmio_write(at + 3, 1, 0xfe);
  EXPECT_EQ(bus.mmio_read(at, 4), 0xfee00000u & 0xffff0000u);
  bus.mmio_write(at + 6, 8, 0x1122334455667788);
  EXPECT_EQ(bus.mmio_read(at + 6, 8), 0x1122334455667788u & 0x0001ffffffffffffu);
  EXPECT_EQ(bus.mmio_read(at + 0xffd, 8), 0u);
  bus.mmio_write(at + 0x1ffc, 4, ~0u);
  EXPECT_EQ(bus.mmio_read(at + 0x1000, 8), 0u); // the PBA is read-only
}

TEST_F(Pci, DrivesIntxUnlessDisabledOrReplacedByMsix) {
  EXPECT_EQ(config(pci::kInterruptPin, 1), 1u);
  EXPECT_EQ(config(pci::kInterruptLine, 1), PciHost::intx_gsi(3));
  function.set_intx(true);
  EXPECT_TRUE(wire.level);
  EXPECT_EQ(config(pci::kStatus, 2) & 8, 8u);
  set_config(pci::kCommand, 2, pci::kCommandMemory | pci::kCommandInterruptDisable);
  EXPECT_FALSE(wire.level);
  EXPECT_EQ(config(pci::kStatus, 2) & 8, 8u);
  set_config(pci::kCommand, 2, pci::kCommandMemory);
  EXPECT_TRUE(wire.level);
  enable_msix();
  EXPECT_FALSE(wire.level);
}

TEST_F(Pci, RefusesTakenAndMissingSlots) {
  Wire other;
  EXPECT_FALSE(host.attach(3, function, other));
  EXPECT_FALSE(host.attach(0, function, other));
  EXPECT_FALSE(host.attach(32, function, other));
}

TEST_F(Pci, RefusesBarsThatDoNotFit) {
  struct Huge : PciFunction {
    Huge(Bus &b, InterruptSink &s, RegisterBlock &r) : PciFunction(b, s, {}) {
      add_bar(0, BarKind::Memory64, 1_GiB, r);
    }
  } huge(bus, sink, function.registers);
  const auto result = host.attach(5, huge, wire);
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message.find("BAR 0"), std::string::npos);
}

TEST_F(Pci, RestoresWhatItSaved) {
  enable_msix(pci::kMsixFunctionMask);
  set_entry(1, 0xfee02000, 0x61, 0);
  set_config(0x1c, 4, 0xdeadbe00);
  function.set_intx(true);
  function.notify(1);
  const auto saved = function.save_function();
  const auto host_saved = host.save();
  host.reset();
  EXPECT_NE(function.save_function(), saved);
  EXPECT_NE(host.save(), host_saved);
  function.restore_function(saved);
  host.restore(host_saved);
  EXPECT_EQ(function.save_function(), saved);
  EXPECT_EQ(host.save(), host_saved);
  EXPECT_EQ(bus.mmio_read(Gpa(0xdeadbe00), 4), 0x5a5a5a5au);
  sink.messages.clear();
  set_config(msix_at() + 2, 2, pci::kMsixEnable);
  EXPECT_EQ(sink.messages, (std::vector<MsiMessage>{{0xfee02000, 0x61}}));
}

} // namespace
} // namespace abyme
