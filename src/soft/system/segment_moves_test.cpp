#include "soft/system/instructions.hpp"
#include "soft/system/test_machine.hpp"

namespace abyme::soft::system {
namespace {

using namespace x86;
using M = TestMachine;

Outcome load(M &m, u8 segment, u16 selector) {
  m.cpu.gpr[RAX] = selector;
  return m.run(mov_to_segment, m.op(2, segment));
}

TEST(MovToSegment, LoadsTheDescriptorAndMarksItAccessed) {
  TestMachine m;
  m.protected_mode(0);
  m.set_descriptor(M::kSpare, make_descriptor(0x12345678, 0x12345, 2, 0, false, {.big = true, .page_granular = true}));
  EXPECT_EQ(load(m, DS, M::kSpare), Outcome::Branch);
  EXPECT_EQ(m.cpu.segments[DS], (Segment{0x12345678, 0x12345FFF, 0xC093, M::kSpare}));
  EXPECT_TRUE(m.descriptor(M::kSpare) >> 40 & 1);
  EXPECT_FALSE(m.cpu.shadow);
  EXPECT_EQ(load(m, SS, M::kData0), Outcome::Branch);
  EXPECT_EQ(m.cpu.shadow, kShadowMovSs);
}

TEST(MovToSegment, InRealModeKeepsTheLimit) {
  TestMachine m;
  m.real_mode();
  m.cpu.segments[ES].limit = 0xFFFFFFFF;
  EXPECT_EQ(load(m, ES, 0x1234), Outcome::Branch);
  EXPECT_EQ(m.cpu.segments[ES].base, 0x12340u);
  EXPECT_EQ(m.cpu.segments[ES].limit, 0xFFFFFFFFu);
}

TEST(MovToSegment, TakesNullSelectors) {
  TestMachine m;
  m.long_mode(0);
  EXPECT_EQ(load(m, FS, 3), Outcome::Branch);
  EXPECT_FALSE(m.cpu.segments[FS].usable());
  EXPECT_EQ(load(m, SS, 0), Outcome::Branch);
  EXPECT_EQ(load(m, SS, 3), Outcome::Fault);
  expect_fault(m.cpu, GP, 0);
  m.protected_mode(0);
  EXPECT_EQ(load(m, SS, 0), Outcome::Fault);
}

TEST(MovToSegment, FailsByEachRule) {
  struct Case {
    unsigned cpl;
    u8 segment;
    u16 selector;
    u8 vector;
    u32 error;
  };
  const Case cases[] = {
      {0, DS, 0x200, GP, 0x200},                     // beyond the GDT
      {0, DS, 0x0C, GP, 0x0C},                       // in an LDT that is absent
      {0, DS, M::kExecuteOnly, GP, M::kExecuteOnly}, // not readable
      {0, DS, M::kTss, GP, M::kTss},                 // a system segment
      {3, DS, M::kData0, GP, M::kData0},             // CPL above DPL
      {0, DS, M::kData0 | 3, GP, M::kData0},         // RPL above DPL
      {0, DS, M::kAbsentData, NP, M::kAbsentData},   // not present
      {0, SS, M::kAbsentData, SS_, M::kAbsentData},  // not present
      {0, SS, M::kReadOnly, GP, M::kReadOnly},       // not writable
      {0, SS, M::kCode0, GP, M::kCode0},             // code
      {0, SS, M::kData3, GP, M::kData3 & ~3},        // RPL is not CPL
      {0, SS, M::kData3 & ~3, GP, M::kData3 & ~3},   // DPL is not CPL
      {0, ES, 0xFE & ~7, GP, 0xF8},                  // an empty descriptor
  };
  for (const Case &c : cases) {
    SCOPED_TRACE(c.selector);
    TestMachine m;
    m.protected_mode(c.cpl);
    EXPECT_EQ(load(m, c.segment, c.selector), Outcome::Fault);
    expect_fault(m.cpu, c.vector, c.error);
  }
  TestMachine m;
  m.protected_mode(0);
  EXPECT_EQ(load(m, CS, M::kCode0), Outcome::Fault);
  expect_fault(m.cpu, UD, -1);
  EXPECT_EQ(load(m, 6, M::kData0), Outcome::Fault);
  expect_fault(m.cpu, UD, -1);
}

TEST(PushSegment, WritesOnlyTheSelectorAndPopTakesIt) {
  TestMachine m;
  m.protected_mode(0);
  m.store<u32>(M::kStack0 - 4, 0xAAAAAAAA);
  EXPECT_EQ(m.run(push_segment, m.op(4, DS)), Outcome::Next);
  EXPECT_EQ(m.load<u32>(M::kStack0 - 4), 0xAAAA0000u | M::kData0);
  EXPECT_EQ(m.run(pop_segment, m.op(4, FS)), Outcome::Branch);
  EXPECT_EQ(m.cpu.segments[FS].selector, M::kData0);
  EXPECT_EQ(m.cpu.gpr[RSP], M::kStack0);
}

TEST(FarPointerLoads, LoadBothOrNeither) {
  TestMachine m;
  m.protected_mode(0);
  m.store<u32>(M::kScratch, 0xCAFE);
  m.store<u16>(M::kScratch + 4, M::kData0);
  EXPECT_EQ(m.run(lgs, m.memory_op(4, M::kScratch)), Outcome::Branch);
  EXPECT_EQ(m.cpu.gpr[RDX], 0xCAFEu);
  m.store<u16>(M::kScratch + 4, 0x200);
  m.cpu.gpr[RDX] = 1;
  EXPECT_EQ(m.run(lgs, m.memory_op(4, M::kScratch)), Outcome::Fault);
  EXPECT_EQ(m.cpu.gpr[RDX], 1u);
}

TEST(GsBase, IsSwappedAndWrittenByThoseWhoMay) {
  TestMachine m;
  m.long_mode(0);
  m.cpu.msr.kernel_gs_base = 0x1000;
  m.cpu.segments[GS].base = 0x2000;
  EXPECT_EQ(m.run(swapgs, m.op(8)), Outcome::Next);
  EXPECT_EQ(m.cpu.segments[GS].base, 0x1000u);
  EXPECT_EQ(m.run(wrgsbase, m.op(8)), Outcome::Fault) << "without CR4.FSGSBASE";
  expect_fault(m.cpu, UD, -1);
  m.cpu.cr4 |= cr4::FSGSBASE;
  m.cpu.gpr[RAX] = 1ull << 47;
  EXPECT_EQ(m.run(wrgsbase, m.op(8)), Outcome::Fault);
  expect_fault(m.cpu, GP, 0);
  m.cpu.gpr[RAX] = 0x3000;
  EXPECT_EQ(m.run(wrgsbase, m.op(8)), Outcome::Next);
  m.cpu.gpr[RAX] = 0;
  EXPECT_EQ(m.run(rdgsbase, m.op(8)), Outcome::Next);
  EXPECT_EQ(m.cpu.gpr[RAX], 0x3000u);
  m.long_mode(3);
  EXPECT_EQ(m.run(swapgs, m.op(8)), Outcome::Fault);
  expect_fault(m.cpu, GP, 0);
}

} // namespace
} // namespace abyme::soft::system
