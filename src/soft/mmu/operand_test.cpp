#include "soft/mmu/access.hpp"
#include "soft/system/test_machine.hpp"

namespace abyme::soft {
namespace {

using namespace x86;
using system::make_descriptor;
using system::TestMachine;

TEST(Operand, SegmentChecks) {
  constexpr unsigned kReadOnly = 1, kData = 3, kDown = 7, kDownReadOnly = 5, kExecuteOnly = 9, kCode = 11;
  struct {
    const char *name;
    unsigned type;
    u32 limit;
    bool big;
    u64 offset;
    unsigned size;
    bool write, allowed;
  } const cases[] = {
      {"last byte", kData, 0xFFF, true, 0xFFF, 1, true, true},
      {"last dword", kData, 0xFFF, true, 0xFFC, 4, true, true},
      {"one beyond", kData, 0xFFF, true, 0xFFD, 4, false, false},
      {"far beyond", kData, 0xFFF, true, 0xFFFF'FFFF, 1, false, false},
      {"around the end", kData, 0xFFF, true, 0xFFFF'FFFE, 4, false, false},
      {"read-only, read", kReadOnly, 0xFFF, true, 0, 4, false, true},
      {"read-only, write", kReadOnly, 0xFFF, true, 0, 4, true, false},
      {"code, read", kCode, 0xFFF, true, 0, 4, false, true},
      {"code, write", kCode, 0xFFF, true, 0, 4, true, false},
      {"execute-only, read", kExecuteOnly, 0xFFF, true, 0, 4, false, false},
      {"expand-down, at the limit", kDown, 0xFFF, true, 0xFFF, 1, true, false},
      {"expand-down, above it", kDown, 0xFFF, true, 0x1000, 4, true, true},
      {"expand-down, across it", kDown, 0xFFF, true, 0xFFD, 4, true, false},
      {"expand-down, top", kDown, 0xFFF, true, 0xFFFF'FFFC, 4, true, true},
      {"expand-down, around the top", kDown, 0xFFF, true, 0xFFFF'FFFD, 4, true, false},
      {"expand-down of 16 bits, top", kDown, 0xFFF, false, 0xFFFC, 4, true, true},
      {"expand-down of 16 bits, beyond", kDown, 0xFFF, false, 0xFFFD, 4, true, false},
      {"expand-down, read-only", kDownReadOnly, 0xFFF, true, 0x1000, 4, true, false},
  };
  TestMachine m;
  m.protected_mode();
  for (const auto &c : cases)
    for (const u8 segment : {DS, SS}) {
      SCOPED_TRACE(c.name);
      m.set_descriptor(TestMachine::kSpare, make_descriptor(0x10000, c.limit, c.type, 0, false, {.big = c.big}));
      m.cpu.segments[segment] = m.segment(TestMachine::kSpare);
      mode_changed(m.cpu);
      u64 linear = 0;
      const bool ok = to_linear(m.cpu, segment, c.offset, c.size, c.write, linear);
      EXPECT_EQ(ok, c.allowed);
      if (ok) {
        EXPECT_EQ(linear, static_cast<u32>(0x10000 + c.offset));
      } else if (!c.allowed) {
        system::expect_fault(m.cpu, segment == SS ? SS_ : GP, 0);
      }
    }
}

TEST(Operand, NullSegment) {
  TestMachine m;
  m.protected_mode();
  m.cpu.segments[ES] = {.base = 0, .limit = 0, .rights = 1u << 16, .selector = 0};
  mode_changed(m.cpu);
  u64 linear;
  EXPECT_FALSE(to_linear(m.cpu, ES, 0, 1, false, linear));
  system::expect_fault(m.cpu, GP, 0);
}

TEST(Operand, RealModeHasLimitsOnly) {
  TestMachine m;
  m.real_mode();
  m.cpu.segments[DS].base = 0xFFFF0;
  u64 linear;
  ASSERT_TRUE(to_linear(m.cpu, DS, 0xFFFE, 2, true, linear));
  EXPECT_EQ(linear, 0x10FFEEu) << "A20 is open";
  EXPECT_FALSE(to_linear(m.cpu, DS, 0xFFFF, 2, true, linear));
  system::expect_fault(m.cpu, GP, 0);
}

TEST(Operand, EffectiveAddresses) {
  TestMachine m;
  m.cpu.gpr[RAX] = 0x1'0000'FFFF;
  m.cpu.gpr[RBX] = 0xFFFF'FFFF'0000'0001;
  Op op = TestMachine::op(4);
  op.base = RAX * 8;
  op.index = RBX * 8;
  op.scale = 1;
  op.disp = -3;
  for (const auto &[size, address] : {std::pair<u8, u64>{2, 0xFFFE}, {4, 0x0000'FFFE}, {8, 0xFFFF'FFFF'0000'FFFE}}) {
    op.address_size = size;
    EXPECT_EQ(effective_address(m.cpu, op), address);
  }
}

// In 64-bit mode only FS and GS have a base, and no limits count; addresses must be canonical.
TEST(Operand, LongMode) {
  TestMachine m;
  m.long_mode();
  for (const u8 s : {ES, CS, SS, DS, FS, GS}) m.cpu.segments[s].base = 0x1000, m.cpu.segments[s].limit = 0;
  struct {
    u8 segment;
    u64 offset;
    unsigned size;
    i64 linear; // 0: refused
    u8 vector;
  } const cases[] = {
      {DS, 0x12345678, 8, 0x12345678, 0},
      {FS, 0x100, 8, 0x1100, 0},
      {GS, ~0ull, 1, 0xFFF, 0},
      {DS, 1ull << 47, 8, 0, GP},
      {SS, 1ull << 47, 8, 0, SS_},
      {DS, (1ull << 47) - 4, 8, 0, GP},
      {GS, (1ull << 47) - 0x1000, 1, 0, GP},
      {DS, 0xFFFF'8000'0000'0000, 8, -(1ll << 47), 0},
  };
  for (const auto &c : cases) {
    SCOPED_TRACE(c.offset);
    u64 linear = 0;
    ASSERT_EQ(to_linear(m.cpu, c.segment, c.offset, c.size, true, linear), c.linear != 0);
    if (c.linear) {
      EXPECT_EQ(linear, static_cast<u64>(c.linear));
    } else {
      system::expect_fault(m.cpu, c.vector, 0);
    }
  }
}

} // namespace
} // namespace abyme::soft
