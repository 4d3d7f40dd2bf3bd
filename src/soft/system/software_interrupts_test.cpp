#include "soft/system/instructions.hpp"
#include "soft/system/test_machine.hpp"

namespace abyme::soft::system {
namespace {

using namespace x86;
using M = TestMachine;

Op interrupt(u8 vector) {
  Op o = M::op(4);
  o.imm = vector;
  return o;
}

TEST(IntN, LeavesRipAtTheInstructionWhenItFails) {
  TestMachine m;
  m.long_mode(3);
  EXPECT_EQ(m.run(int_n, interrupt(0x40)), Outcome::Fault);
  expect_fault(m.cpu, GP, 0x40 * 8 + 2);
  EXPECT_EQ(m.cpu.rip, M::kCode);
  EXPECT_TRUE(m.cpu.delivering) << "what IDT-vectoring information reports";
  EXPECT_EQ(m.cpu.vectoring.vector, 0x40);
  EXPECT_EQ(m.cpu.vectoring.length, 2);
}

TEST(IntN, GoesThroughItsGate) {
  TestMachine m;
  m.long_mode(0);
  m.set_gate64(BP, make_gate(M::kCode64, M::kHandler, kInterruptGate32, 0));
  EXPECT_EQ(m.run(int3, m.op(4)), Outcome::Branch);
  EXPECT_EQ(m.cpu.rip, M::kHandler);
  EXPECT_EQ(m.stack(0), M::kCode + 2);
  EXPECT_FALSE(m.cpu.delivering);
}

TEST(Int1, IsNotBoundByTheGatesDpl) {
  TestMachine m;
  m.long_mode(3);
  m.store<u64>(M::kTssBase + 4, M::kStack0);
  m.set_gate64(DB, make_gate(M::kCode64, M::kHandler, kInterruptGate32, 0));
  EXPECT_EQ(m.run(int1, m.op(4)), Outcome::Branch);
  m.long_mode(3);
  m.set_gate64(BP, make_gate(M::kCode64, M::kHandler, kInterruptGate32, 0));
  EXPECT_EQ(m.run(int3, m.op(4)), Outcome::Fault);
  expect_fault(m.cpu, GP, BP * 8 + 2);
}

TEST(Into, TrapsOnOverflowAlone) {
  TestMachine m;
  m.protected_mode(0);
  m.set_gate(OF, make_gate(M::kCode0, M::kHandler, kTrapGate32, 0));
  EXPECT_EQ(m.run(into, m.op(4)), Outcome::Next);
  set_rflags(m.cpu, rflags(m.cpu) | rflags::OF);
  EXPECT_EQ(m.run(into, m.op(4)), Outcome::Branch);
}

TEST(Bound, ComparesSignedBounds) {
  TestMachine m;
  m.protected_mode(0);
  m.store<i32>(M::kScratch, -5);
  m.store<i32>(M::kScratch + 4, 5);
  for (i32 index : {-5, 0, 5}) {
    m.cpu.gpr[RDX] = static_cast<u32>(index);
    EXPECT_EQ(m.run(bound, m.memory_op(4, M::kScratch)), Outcome::Next);
  }
  for (i32 index : {-6, 6}) {
    m.cpu.gpr[RDX] = static_cast<u32>(index);
    EXPECT_EQ(m.run(bound, m.memory_op(4, M::kScratch)), Outcome::Fault);
    expect_fault(m.cpu, BR, -1);
  }
}

struct Virtual8086 : ::testing::Test {
  TestMachine m;
  Cpu &cpu = m.cpu;
  void SetUp() override {
    m.v86_mode(0);
    cpu.gpr[RSP] = M::kStack3;
    m.set_gate(0x40, make_gate(M::kCode0, M::kHandler, kInterruptGate32, 3));
    m.store<u16>(M::kTssBase + 0x66, 0x88); // 32 bytes of redirection map below it
    cpu.tr.limit = 0x90;
    m.store<u32>(0x40 * 4, 0x0100'0020);
  }
};

TEST_F(Virtual8086, IntNNeedsIopl3) {
  EXPECT_EQ(m.run(int_n, interrupt(0x40)), Outcome::Fault);
  expect_fault(m.cpu, GP, 0);
  set_rflags(cpu, rflags(cpu) | rflags::IOPL);
  EXPECT_EQ(m.run(int_n, interrupt(0x40)), Outcome::Branch);
  EXPECT_EQ(cpu.cpl, 0);
}

TEST_F(Virtual8086, VmeRedirectsToTheProgram) {
  cpu.cr4 |= cr4::VME;
  set_rflags(cpu, rflags(cpu) | rflags::VIF);
  EXPECT_EQ(m.run(int_n, interrupt(0x40)), Outcome::Branch);
  EXPECT_TRUE(cpu.v86());
  EXPECT_EQ(cpu.rip, 0x20u);
  EXPECT_EQ(cpu.segments[CS].base, 0x1000u);
  EXPECT_EQ(m.stack(2, 2), 0x3202u);
  EXPECT_FALSE(rflags(cpu) & rflags::VIF);
  EXPECT_TRUE(rflags(cpu) & rflags::IF);
  m.store<u8>(M::kTssBase + 0x68 + 8, 1); // vector 40h: to the monitor
  EXPECT_EQ(m.run(int_n, interrupt(0x40)), Outcome::Fault);
  expect_fault(m.cpu, GP, 0);
}

TEST(IoAllowed, AsksIoplThenTheBitmap) {
  TestMachine m;
  m.protected_mode(3);
  m.cpu.tr.limit = 0x68 + 0x80;
  m.store<u8>(M::kTssBase + 0x68 + 0x60 / 8, 0x01); // port 60h is barred
  EXPECT_FALSE(io_allowed(m.cpu, 0x60, 1));
  expect_fault(m.cpu, GP, 0);
  EXPECT_TRUE(io_allowed(m.cpu, 0x61, 1));
  EXPECT_FALSE(io_allowed(m.cpu, 0x5E, 4));
  EXPECT_FALSE(io_allowed(m.cpu, 0x400, 1)) << "beyond the segment";
  m.cpu.tr.rights = 0x83;
  EXPECT_FALSE(io_allowed(m.cpu, 0x61, 1)) << "a 16-bit TSS has no bitmap";
  set_rflags(m.cpu, 0x3202);
  EXPECT_TRUE(io_allowed(m.cpu, 0x60, 1));
  m.v86_mode(3);
  m.cpu.tr.limit = 0x67;
  EXPECT_FALSE(io_allowed(m.cpu, 0x60, 1)) << "IOPL does not count in virtual-8086 mode";
}

TEST(Reset, StartsAtTheResetVectorAndSipiAtItsPage) {
  TestMachine m;
  m.long_mode(0);
  m.cpu.msr.lstar = 5;
  m.cpu.cr0 |= cr0::CD;
  init(m.cpu);
  EXPECT_EQ(m.cpu.rip, 0xFFF0u);
  EXPECT_EQ(m.cpu.segments[CS].base, 0xFFFF0000u);
  EXPECT_TRUE(m.cpu.cr0 & cr0::CD);
  EXPECT_FALSE(m.cpu.cr0 & cr0::NW);
  EXPECT_EQ(m.cpu.msr.lstar, 5u) << "INIT keeps MSRs";
  start_up(m.cpu, 0x9A);
  EXPECT_EQ(m.cpu.segments[CS].base, 0x9A000u);
  EXPECT_EQ(m.cpu.segments[CS].selector, 0x9A00);
  EXPECT_EQ(m.cpu.rip, 0u);
  reset(m.cpu);
  EXPECT_EQ(m.cpu.msr.lstar, 0u);
  EXPECT_EQ(m.cpu.cr0, 0x60000010u);
}

TEST(State, IsTakenOverAndGivenBack) {
  TestMachine m;
  m.long_mode(3);
  CpuState state = get_state(m.cpu);
  state.gpr[R15] = 42, state.cr8 = 3, state.rflags |= rflags::CF;
  TestMachine other;
  set_state(other.cpu, state);
  EXPECT_EQ(get_state(other.cpu), state);
  EXPECT_EQ(other.cpu.cpl, 3);
  EXPECT_TRUE(other.cpu.code64());
}

} // namespace
} // namespace abyme::soft::system
