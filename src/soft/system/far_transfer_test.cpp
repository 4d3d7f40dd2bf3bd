#include "soft/system/system.hpp"
#include "soft/system/test_machine.hpp"

namespace abyme::soft::system {
namespace {

using namespace x86;
using M = TestMachine;

Op far(u16 selector, u32 offset, unsigned size = 4) {
  Op o = M::op(size);
  o.imm = offset;
  o.disp = selector;
  return o;
}

TEST(FarJump, LoadsCodeOfTheSameLevel) {
  TestMachine m;
  m.protected_mode(0);
  EXPECT_EQ(m.run(jump_far, far(M::kCode16, 0x1234)), Outcome::Branch);
  EXPECT_EQ(m.cpu.segments[CS].selector, M::kCode16);
  EXPECT_EQ(m.cpu.rip, 0x1234u);
  EXPECT_FALSE(m.cpu.mode & kModeCode32);
}

TEST(FarJump, EntersProtectedModeAfterPeIsSet) {
  TestMachine m;
  m.real_mode();
  m.cpu.gdtr = {M::kGdt, M::kGdtLimit};
  ASSERT_TRUE(write_cr0(m.cpu, m.cpu.cr0 | cr0::PE));
  EXPECT_EQ(m.run(jump_far, far(M::kCode0, 0x5000)), Outcome::Branch);
  EXPECT_TRUE(m.cpu.mode & kModeCode32);
  EXPECT_EQ(m.cpu.cpl, 0);
}

TEST(FarJump, InRealModeTakesTheSelectorAsABase) {
  TestMachine m;
  m.real_mode();
  EXPECT_EQ(m.run(jump_far, far(0x1000, 0x20, 2)), Outcome::Branch);
  EXPECT_EQ(m.cpu.segments[CS].base, 0x10000u);
  EXPECT_EQ(m.run(jump_far, far(0, 0x10000, 4)), Outcome::Fault);
  expect_fault(m.cpu, GP, 0);
}

TEST(FarJump, GoesThroughMemoryTo64BitCode) {
  TestMachine m;
  m.compatibility_mode(0);
  m.store<u32>(M::kScratch, 0x4321);
  m.store<u16>(M::kScratch + 4, M::kCode64);
  EXPECT_EQ(m.run(jump_far, m.memory_op(4, M::kScratch)), Outcome::Branch);
  EXPECT_TRUE(m.cpu.code64());
  EXPECT_EQ(m.cpu.rip, 0x4321u);
}

TEST(FarCall, PushesTheReturnAddressAndRetTakesIt) {
  TestMachine m;
  m.protected_mode(0);
  EXPECT_EQ(m.run(call_far, far(M::kCode0, 0x1234)), Outcome::Branch);
  EXPECT_EQ(m.stack(0, 4), M::kCode + 2);
  EXPECT_EQ(m.stack(1, 4), M::kCode0);
  Op ret = m.op(4);
  ret.imm = 8;
  EXPECT_EQ(m.run(return_far, ret), Outcome::Branch);
  EXPECT_EQ(m.cpu.rip, M::kCode + 2);
  EXPECT_EQ(m.cpu.gpr[RSP], M::kStack0 + 8);
}

struct Gate : ::testing::Test {
  TestMachine m;
  Cpu &cpu = m.cpu;
  void SetUp() override { user(m); }
  static void user(TestMachine &m) {
    m.protected_mode(3);
    m.set_descriptor(M::kCallGate, make_gate(M::kCode0, M::kHandler, kCallGate32, 3, 2));
    m.cpu.gpr[RSP] = M::kStack3;
    m.push({0xBBBB, 0xAAAA}, 4);
  }
};

TEST_F(Gate, CopiesParametersToTheInnerStack) {
  EXPECT_EQ(m.run(call_far, far(M::kCallGate, 0)), Outcome::Branch);
  EXPECT_EQ(cpu.cpl, 0);
  EXPECT_EQ(cpu.rip, M::kHandler);
  EXPECT_EQ(cpu.gpr[RSP], M::kStack0 - 24);
  EXPECT_EQ(m.stack(0, 4), M::kCode + 2);
  EXPECT_EQ(m.stack(1, 4), M::kCode3);
  EXPECT_EQ(m.stack(2, 4), 0xAAAAu);
  EXPECT_EQ(m.stack(3, 4), 0xBBBBu);
  EXPECT_EQ(m.stack(4, 4), M::kStack3 - 8);
  EXPECT_EQ(m.stack(5, 4), M::kData3);
}

TEST_F(Gate, IsReturnedFromToTheOuterStack) {
  ASSERT_EQ(m.run(call_far, far(M::kCallGate, 0)), Outcome::Branch);
  Op ret = m.op(4);
  ret.imm = 8;
  EXPECT_EQ(m.run(return_far, ret), Outcome::Branch);
  EXPECT_EQ(cpu.cpl, 3);
  EXPECT_EQ(cpu.gpr[RSP], M::kStack3);
  EXPECT_EQ(cpu.segments[SS].selector, M::kData3);
}

TEST_F(Gate, Of64BitModeTakesRspFromTheTss) {
  m.long_mode(3);
  m.store<u64>(M::kTssBase + 4, M::kStack0);
  m.set_descriptor(M::kCallGate, make_gate(M::kCode64, M::kHandler, kCallGate32, 3));
  m.store<u64>(M::kGdt + (M::kCallGate & ~7) + 8, 0);
  EXPECT_EQ(m.run(call_far, far(M::kCallGate, 0)), Outcome::Branch);
  EXPECT_EQ(cpu.cpl, 0);
  EXPECT_EQ(cpu.gpr[RSP], M::kStack0 - 32);
  EXPECT_FALSE(cpu.segments[SS].usable());
  EXPECT_EQ(m.stack(1), M::kCode64User);
}

const FaultCase kGateCases[] = {
    {"gate's DPL", [](M &m) { m.set_descriptor(M::kCallGate, make_gate(M::kCode0, M::kHandler, kCallGate32, 2)); }, GP,
     M::kCallGate & ~3},
    {"gate not present",
     [](M &m) { m.set_descriptor(M::kCallGate, make_gate(M::kCode0, M::kHandler, kCallGate32, 3, 0, false)); }, NP,
     M::kCallGate & ~3},
    {"null target", [](M &m) { m.set_descriptor(M::kCallGate, make_gate(0, M::kHandler, kCallGate32, 3)); }, GP, 0},
    {"target is data", [](M &m) { m.set_descriptor(M::kCallGate, make_gate(M::kData0, 0, kCallGate32, 3)); }, GP,
     M::kData0},
    {"target not present", [](M &m) { m.change_descriptor(M::kCode0, kPresentBit, 0); }, NP, M::kCode0},
    {"TSS too short", [](M &m) { m.cpu.tr.limit = 8; }, TS, M::kTss},
    {"null stack", [](M &m) { m.store<u32>(M::kTssBase + 8, 0); }, TS, 0},
    {"stack not present", [](M &m) { m.store<u32>(M::kTssBase + 8, M::kAbsentData); }, SS_, M::kAbsentData},
    {"no room",
     [](M &m) { m.set_descriptor(M::kData0, make_descriptor(0, M::kStack0 - 2, 3, 0, false, {.big = true})); }, SS_,
     M::kData0},
    {"offset beyond the limit",
     [](M &m) { m.set_descriptor(M::kCode0, make_descriptor(0, M::kHandler - 1, 11, 0, false, {.big = true})); }, GP,
     0},
};

TEST(CallGate, FailsByEachRule) {
  for (const FaultCase &c : kGateCases) {
    SCOPED_TRACE(c.name);
    TestMachine m;
    Gate::user(m);
    c.change(m);
    CpuState before = get_state(m.cpu);
    EXPECT_EQ(m.run(call_far, far(M::kCallGate, 0)), Outcome::Fault);
    expect_fault(m.cpu, c.vector, c.error);
    EXPECT_EQ(get_state(m.cpu), before);
  }
}

struct JumpCase {
  const char *name;
  unsigned cpl;
  u16 selector;
  u8 vector;
  u32 error;
};

TEST(FarJump, FailsByEachRule) {
  const JumpCase cases[] = {
      {"null", 0, 3, GP, 0},
      {"beyond the GDT", 0, 0x200, GP, 0x200},
      {"data", 0, M::kData0, GP, M::kData0},
      {"another level", 3, M::kCode0, GP, M::kCode0},
      {"RPL above CPL", 0, M::kCode0 | 3, GP, M::kCode0},
      {"an LDT", 0, M::kLdt, GP, M::kLdt},
      {"its own busy TSS", 0, M::kTss, GP, M::kTss},
      {"to an inner level through a gate", 3, M::kCallGate, GP, M::kCode0},
  };
  for (const JumpCase &c : cases) {
    SCOPED_TRACE(c.name);
    TestMachine m;
    m.protected_mode(c.cpl);
    m.set_descriptor(M::kCallGate, make_gate(M::kCode0, M::kHandler, kCallGate32, 3));
    m.change_descriptor(M::kTss, 0, 2ull << 40);
    EXPECT_EQ(m.run(jump_far, far(c.selector, 0)), Outcome::Fault);
    expect_fault(m.cpu, c.vector, c.error);
  }
}

TEST(FarReturn, RefusesInnerLevels) {
  TestMachine m;
  m.protected_mode(3);
  m.push({M::kCode0, 0x1234}, 4);
  EXPECT_EQ(m.run(return_far, m.op(4)), Outcome::Fault);
  expect_fault(m.cpu, GP, M::kCode0);
}

} // namespace
} // namespace abyme::soft::system
