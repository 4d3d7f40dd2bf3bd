#include "soft/system/instructions.hpp"
#include "soft/system/test_machine.hpp"

namespace abyme::soft::system {
namespace {

using namespace x86;
using M = TestMachine;

void long_frame(M &m, u64 cs = M::kCode64User, u64 ss = M::kData3, u64 rip = 0x1234, u64 flags = 0x202) {
  m.cpu.gpr[RSP] = M::kStack0;
  m.push({ss, M::kStack3, flags, cs, rip}, 8);
}
void short_frame(M &m, u64 cs = M::kCode3, u64 ss = M::kData3, u64 rip = 0x1234, u64 flags = 0x202) {
  m.cpu.gpr[RSP] = M::kStack0;
  m.push({ss, M::kStack3, flags, cs, rip}, 4);
}

TEST(Iret, ReturnsFrom64BitModeToTheUser) {
  TestMachine m;
  m.long_mode(0);
  m.cpu.nmi_blocked = true;
  long_frame(m);
  EXPECT_EQ(m.run(iret, m.op(8)), Outcome::Branch);
  EXPECT_EQ(m.cpu.rip, 0x1234u);
  EXPECT_EQ(m.cpu.cpl, 3);
  EXPECT_EQ(m.cpu.gpr[RSP], M::kStack3);
  EXPECT_FALSE(m.cpu.segments[DS].usable()) << "DS was of level 0";
  EXPECT_FALSE(m.cpu.nmi_blocked);
}

TEST(Iret, KeepsTheBaseOfASegmentThatItDrops) {
  TestMachine m;
  m.long_mode(0);
  m.cpu.segments[FS] = {.base = 0x7f00'1234'5000, .limit = ~0u, .rights = 0xC093, .selector = 0};
  long_frame(m);
  EXPECT_EQ(m.run(iret, m.op(8)), Outcome::Branch);
  EXPECT_FALSE(m.cpu.segments[FS].usable());
  EXPECT_EQ(m.cpu.segments[FS].base, 0x7f00'1234'5000u);
}

TEST(Iret, ReturnsFrom64BitModeToTheSameLevelWithANullStack) {
  TestMachine m;
  m.long_mode(0);
  m.cpu.gpr[RSP] = M::kStack0;
  m.push({0, 0x7000, 0x2, M::kCode64, 0x1234}, 8);
  EXPECT_EQ(m.run(iret, m.op(8)), Outcome::Branch);
  EXPECT_EQ(m.cpu.gpr[RSP], 0x7000u);
  EXPECT_EQ(m.cpu.cpl, 0);
  EXPECT_TRUE(m.cpu.segments[DS].usable());
}

TEST(Iret, ReturnsToCompatibilityMode) {
  TestMachine m;
  m.long_mode(0);
  long_frame(m, M::kCode3);
  EXPECT_EQ(m.run(iret, m.op(8)), Outcome::Branch);
  EXPECT_FALSE(m.cpu.code64());
  EXPECT_TRUE(m.cpu.mode & kModeCode32);
}

TEST(Iret, LeavesIfAndIoplToThoseWhoMay) {
  TestMachine m;
  m.long_mode(3);
  m.cpu.gpr[RSP] = M::kStack3;
  m.push({M::kData3, M::kStack3, 0x3002 | rflags::TF, M::kCode64User, 0x1234}, 8);
  EXPECT_EQ(m.run(iret, m.op(8)), Outcome::Branch);
  EXPECT_EQ(rflags(m.cpu), 0x202u | rflags::TF);
}

TEST(Iret, EntersVirtual8086Mode) {
  TestMachine m;
  m.protected_mode(0);
  m.cpu.gpr[RSP] = M::kStack0;
  m.push({5, 4, 3, 2, 1, 0xFF0, 0x3202 | rflags::VM, 0x100, 0x20}, 4); // GS FS DS ES SS ESP EFLAGS CS EIP
  EXPECT_EQ(m.run(iret, m.op(4)), Outcome::Branch);
  EXPECT_TRUE(m.cpu.v86());
  EXPECT_EQ(m.cpu.cpl, 3);
  EXPECT_EQ(m.cpu.segments[CS].base, 0x1000u);
  EXPECT_EQ(m.cpu.segments[GS].selector, 5);
  EXPECT_EQ(m.cpu.gpr[RSP], 0xFF0u);
}

TEST(Iret, NeedsIoplInVirtual8086ModeButFor16BitsWithVme) {
  TestMachine m;
  m.v86_mode(0);
  m.cpu.gpr[RSP] = M::kStack3;
  m.push({0x202, 0x100, 0x20}, 2);
  EXPECT_EQ(m.run(iret, m.op(2)), Outcome::Fault);
  expect_fault(m.cpu, GP, 0);
  m.cpu.cr4 |= cr4::VME;
  EXPECT_EQ(m.run(iret, m.op(2)), Outcome::Branch);
  EXPECT_TRUE(rflags(m.cpu) & rflags::VIF);
  EXPECT_EQ(m.cpu.rip, 0x20u);
}

TEST(Iret, InRealModeTakesEverything) {
  TestMachine m;
  m.real_mode();
  m.push({0x7202, 0x100, 0x20}, 2);
  EXPECT_EQ(m.run(iret, m.op(2)), Outcome::Branch);
  EXPECT_EQ(rflags(m.cpu), 0x7202u);
  EXPECT_EQ(m.cpu.segments[CS].base, 0x1000u);
}

const FaultCase kLongCases[] = {
    {"null CS", [](M &m) { long_frame(m, 0); }, GP, 0},
    {"CS beyond the GDT", [](M &m) { long_frame(m, 0x203); }, GP, 0x200},
    {"CS is data", [](M &m) { long_frame(m, M::kData3); }, GP, M::kData3 & ~3},
    {"CS's DPL is not its RPL", [](M &m) { long_frame(m, M::kCode64 | 3); }, GP, M::kCode64},
    {"CS is both 32 and 64 bits", [](M &m) { m.change_descriptor(M::kCode64User, 0, 1ull << 54), long_frame(m); }, GP,
     M::kCode64User & ~3},
    {"CS not present", [](M &m) { m.change_descriptor(M::kCode64User, kPresentBit, 0), long_frame(m); }, NP,
     M::kCode64User & ~3},
    {"null SS for level 3", [](M &m) { long_frame(m, M::kCode64User, 3); }, GP, 0},
    {"SS's RPL", [](M &m) { long_frame(m, M::kCode64User, M::kData3 & ~3); }, GP, M::kData3 & ~3},
    {"SS's DPL", [](M &m) { long_frame(m, M::kCode64User, M::kData0 | 3); }, GP, M::kData0},
    {"SS not present", [](M &m) { m.change_descriptor(M::kData3, kPresentBit, 0), long_frame(m); }, SS_,
     M::kData3 & ~3},
    {"RIP not canonical", [](M &m) { long_frame(m, M::kCode64User, M::kData3, 1ull << 47); }, GP, 0},
    {"NT", [](M &m) { set_rflags(m.cpu, 0x4002), long_frame(m); }, GP, 0},
    {"stack not canonical", [](M &m) { m.cpu.gpr[RSP] = 1ull << 47; }, SS_, 0},
};

const FaultCase kShortCases[] = {
    {"CS of an inner level",
     [](M &m) {
       m.protected_mode(3), m.cpu.gpr[RSP] = M::kStack3, m.push({0x2, M::kCode0, 0x1234}, 4);
     },
     GP, M::kCode0},
    {"null SS", [](M &m) { short_frame(m, M::kCode3, 0); }, GP, 0},
    {"EIP beyond the limit",
     [](M &m) { m.set_descriptor(M::kCode3, make_descriptor(0, 0x1233, 11, 3, false, {.big = true})), short_frame(m); },
     GP, 0},
    {"conforming CS of an inner level than its RPL",
     [](M &m) { m.change_descriptor(M::kConforming, 0, 3ull << 45), short_frame(m, M::kConforming | 2); }, GP,
     M::kConforming},
    {"stack beyond its limit", [](M &m) { m.cpu.segments[SS].limit = M::kStack0 - 1, m.cpu.gpr[RSP] = M::kStack0; },
     SS_, 0},
};

void expect_case(TestMachine &m, const FaultCase &c, unsigned size) {
  c.change(m);
  CpuState before = get_state(m.cpu);
  EXPECT_EQ(m.run(iret, m.op(size)), Outcome::Fault) << c.name;
  SCOPED_TRACE(c.name);
  expect_fault(m.cpu, c.vector, c.error);
  EXPECT_EQ(get_state(m.cpu), before);
}

TEST(Iret, FailsByEachRuleOf64BitMode) {
  for (const FaultCase &c : kLongCases) {
    TestMachine m;
    m.long_mode(0);
    expect_case(m, c, 8);
  }
}

TEST(Iret, FailsByEachRuleOfProtectedMode) {
  for (const FaultCase &c : kShortCases) {
    TestMachine m;
    m.protected_mode(0);
    expect_case(m, c, 4);
  }
}

} // namespace
} // namespace abyme::soft::system
