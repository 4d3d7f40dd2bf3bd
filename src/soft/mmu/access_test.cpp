#include "soft/decode/block_cache.hpp"
#include "soft/mmu/access.hpp"
#include "soft/mmu/fast.hpp"
#include "soft/mmu/test_tables.hpp"
#include "vcpu/engine.hpp"

namespace abyme::soft::mmu {
namespace {

using namespace x86;
using P = PagedMachine;

// Notes what a device sees.
struct RecordingIo : IoHandler {
  struct Access {
    u64 at;
    unsigned size;
    u64 value;
    bool write;
    bool operator==(const Access &) const = default;
  };
  std::vector<Access> seen;
  u64 mmio_read(Gpa at, unsigned size) override {
    seen.push_back({at.value, size, 0, false});
    return 0x0706'0504'0302'0100ull + (at.value & 7) * 0x0101'0101'0101'0101ull;
  }
  void mmio_write(Gpa at, unsigned size, u64 value) override { seen.push_back({at.value, size, value, true}); }
  u32 port_read(u16, unsigned) override { return 0; }
  void port_write(u16, unsigned, u32) override {}
};

struct AccessMachine : PagedMachine {
  static constexpr u64 kSecond = kLinear + 0x1000, kMmio = 0x10'0000'0000;
  AccessMachine() {
    page(Paging::FourLevel);
    set(1, 0x210000 | 7, kSecond);
    cpu.io = &io;
  }
  RecordingIo io;
};

TEST(Access, CrossesPages) {
  AccessMachine m;
  for (unsigned before = 1; before < 8; before++) {
    const u64 value = 0x1122334455667788 + before;
    ASSERT_TRUE(write_linear(m.cpu, AccessMachine::kSecond - before, value));
    u64 low = 0;
    EXPECT_EQ(m.load<u64>(P::kPage + 0x1000 - before) << (64 - before * 8), value << (64 - before * 8));
    EXPECT_EQ(m.load<u64>(0x210000) << before * 8, (value >> before * 8) << before * 8);
    ASSERT_TRUE(read_linear(m.cpu, AccessMachine::kSecond - before, low));
    EXPECT_EQ(low, value);
    EXPECT_EQ(abyme::soft::load<u64>(m.cpu, AccessMachine::kSecond - before).value, value);
  }
}

// Nothing is written when the second page faults, and CR2 is that page's start.
TEST(Access, SecondPageFaults) {
  AccessMachine m;
  m.set(1, 0x210000 | 1, AccessMachine::kSecond);
  m.cpu.cr0 |= cr0::WP;
  m.store<u64>(P::kPage + 0xFF8, 0);
  EXPECT_FALSE(write_linear(m.cpu, AccessMachine::kSecond - 4, ~0ull));
  system::expect_fault(m.cpu, PF, 3);
  EXPECT_EQ(m.cpu.fault.event.address, AccessMachine::kSecond);
  EXPECT_EQ(m.load<u64>(P::kPage + 0xFF8), 0u);
  EXPECT_FALSE(probe_write(m.cpu, AccessMachine::kSecond - 4, 8));
  EXPECT_TRUE(probe_read(m.cpu, AccessMachine::kSecond - 4, 8));
  EXPECT_FALSE(load_for_write_slow(m.cpu, AccessMachine::kSecond - 4, 8).ok);
  u64 value = 0;
  EXPECT_TRUE(read_linear(m.cpu, AccessMachine::kSecond - 4, value));
}

TEST(Access, ProbesWriteNothingButMarkDirty) {
  AccessMachine m;
  m.store<u64>(P::kPage, 0x1234);
  EXPECT_TRUE(probe_write(m.cpu, P::kLinear, 8));
  EXPECT_EQ(m.load<u64>(P::kPage), 0x1234u);
}

TEST(Access, CanonicalAddresses) {
  AccessMachine m;
  u64 value = 0;
  for (const u64 bad : {0x0000'8000'0000'0000ull, 0xFFFF'7FFF'FFFF'FFFFull, 0x0000'7FFF'FFFF'FFFFull + 1}) {
    EXPECT_FALSE(read_linear(m.cpu, bad, value));
    system::expect_fault(m.cpu, GP, 0);
    EXPECT_TRUE(m.cpu.fault.non_canonical);
    EXPECT_FALSE(translate(m.cpu, bad, false, false).valid);
  }
}

// Devices see naturally aligned pieces, in order.
TEST(Access, MmioInPieces) {
  AccessMachine m;
  m.set(1, AccessMachine::kMmio | 7);
  m.set(1, (AccessMachine::kMmio + 0x1000) | 7, AccessMachine::kSecond);
  using A = RecordingIo::Access;
  const u64 at = AccessMachine::kMmio;
  struct {
    u64 offset;
    unsigned size;
    std::vector<A> pieces;
  } const cases[] = {
      {0x10, 8, {{at + 0x10, 8, 0x8877665544332211, true}}},
      {0x11, 1, {{at + 0x11, 1, 0x11, true}}},
      {0x12, 4, {{at + 0x12, 2, 0x2211, true}, {at + 0x14, 2, 0x4433, true}}},
      {0x15, 4, {{at + 0x15, 1, 0x11, true}, {at + 0x16, 2, 0x3322, true}, {at + 0x18, 1, 0x44, true}}},
      {0xFFE, 4, {{at + 0xFFE, 2, 0x2211, true}, {at + 0x1000, 2, 0x4433, true}}},
  };
  for (const auto &c : cases) {
    SCOPED_TRACE(c.offset);
    m.io.seen.clear();
    const u64 value = 0x8877665544332211;
    ASSERT_TRUE(write_linear(m.cpu, P::kLinear + c.offset, &value, c.size));
    EXPECT_EQ(m.io.seen, c.pieces);
  }
  u32 value = 0;
  ASSERT_TRUE(read_linear(m.cpu, P::kLinear + 0x12, value));
  EXPECT_EQ(value, 0x05040302u);
  EXPECT_EQ(host_pointer(m.cpu, P::kLinear, 8, false), nullptr);
  EXPECT_EQ(m.cpu.fault.kind, Fault::Kind::None);
}

// The TLB gives out no pointer for writing to a page with code.
TEST(Access, CodePagesAreWatched) {
  AccessMachine m;
  struct : CodeSync {
    void retire_writers(Gpa, Cpu &) override {}
  } sync;
  BlockCache blocks(1_MiB, sync);
  m.cpu.blocks = &blocks;
  const u64 value = 1;
  ASSERT_TRUE(write_linear(m.cpu, P::kLinear, value));
  EXPECT_NE(host_pointer(m.cpu, P::kLinear, 8, true), nullptr);
  m.cpu.memory->add_code(Gpa(P::kPage), 1);
  flush_all(m.cpu);
  EXPECT_EQ(host_pointer(m.cpu, P::kLinear, 8, true), nullptr);
  EXPECT_NE(host_pointer(m.cpu, P::kLinear, 8, false), nullptr);
  ASSERT_TRUE(write_linear(m.cpu, P::kLinear + 0x800, value)); // not the line with code
  EXPECT_TRUE(m.cpu.memory->is_code(Gpa(P::kPage)));
  ASSERT_TRUE(write_linear(m.cpu, P::kLinear + 8, value));
  EXPECT_FALSE(m.cpu.memory->is_code(Gpa(P::kPage)));
}

TEST(Access, Alignment) {
  AccessMachine m;
  m.cpu.cpl = 3;
  m.cpu.cr0 |= cr0::AM;
  set_rflags(m.cpu, rflags::AC);
  mode_changed(m.cpu);
  u32 value = 0;
  EXPECT_TRUE(read_linear(m.cpu, P::kLinear + 4, value));
  EXPECT_FALSE(read_linear(m.cpu, P::kLinear + 2, value));
  system::expect_fault(m.cpu, AC, 0);
  EXPECT_FALSE(abyme::soft::load<u32>(m.cpu, P::kLinear + 1).ok);
  EXPECT_FALSE(write_linear(m.cpu, AccessMachine::kSecond - 2, value)) << "alignment comes before pages";
  system::expect_fault(m.cpu, AC, 0);
  EXPECT_TRUE(read_linear(m.cpu, P::kLinear + 2, value, As::Supervisor));
  m.cpu.cpl = 0;
  mode_changed(m.cpu);
  EXPECT_TRUE(read_linear(m.cpu, P::kLinear + 2, value));
}

// Outside of 64-bit mode linear addresses wrap at 4 GiB; a descriptor table above does not.
TEST(Access, WrapsAtFourGib) {
  AccessMachine m;
  m.protected_mode();
  m.store<u32>(0, 0xAABBCCDD);
  u32 value = 0;
  ASSERT_TRUE(read_linear(m.cpu, 0xFFFF'FFFE, value));
  EXPECT_EQ(value >> 16, 0xCCDDu);
  m.page(Paging::FourLevel);
  m.set(1, 0x210000 | 7, AccessMachine::kSecond);
  for (unsigned level = 3; level <= 4; level++) m.store<u64>(m.table(level) + 0xFF8, m.table(level - 1) | 7);
  m.store<u64>(m.table(2) + 0xFF8, m.table(1) | 7);
  m.cpu.segments[CS] = m.segment(system::TestMachine::kCode0);
  mode_changed(m.cpu);
  m.store<u32>(P::kPage + 0xFFC, 0x11223344);
  m.store<u32>(0x210000, 0x55667788);
  u64 wide = 0;
  const u64 high = 0xFFFF'FFFF'FFE0'3FFC;
  ASSERT_TRUE(read_linear(m.cpu, high, wide, As::Supervisor));
  EXPECT_EQ(wide, 0x5566778811223344u);
}

} // namespace
} // namespace abyme::soft::mmu
