#include "soft/system/instructions.hpp"
#include "soft/system/test_machine.hpp"

namespace abyme::soft::system {
namespace {

using namespace x86;
using M = TestMachine;

TEST(Sti, BlocksForOneInstructionOnlyWhenIfWasClear) {
  TestMachine m;
  m.long_mode(0);
  EXPECT_EQ(m.run(sti, m.op(4)), Outcome::Next);
  EXPECT_EQ(m.cpu.shadow, 0);
  EXPECT_EQ(m.run(cli, m.op(4)), Outcome::Next);
  EXPECT_FALSE(rflags(m.cpu) & rflags::IF);
  m.cpu.attention = 0;
  EXPECT_EQ(m.run(sti, m.op(4)), Outcome::Next);
  EXPECT_EQ(m.cpu.shadow, kShadowSti);
  EXPECT_TRUE(m.cpu.attention & kAttentionEvents);
}

TEST(Cli, NeedsIoplOrAVirtualFlag) {
  TestMachine m;
  m.protected_mode(3);
  EXPECT_EQ(m.run(cli, m.op(4)), Outcome::Fault);
  expect_fault(m.cpu, GP, 0);
  m.cpu.cr4 |= cr4::PVI;
  EXPECT_EQ(m.run(sti, m.op(4)), Outcome::Next);
  EXPECT_TRUE(rflags(m.cpu) & rflags::VIF);
  EXPECT_EQ(m.run(cli, m.op(4)), Outcome::Next);
  EXPECT_FALSE(rflags(m.cpu) & rflags::VIF);
  EXPECT_TRUE(rflags(m.cpu) & rflags::IF);
  set_rflags(m.cpu, rflags(m.cpu) | rflags::VIP);
  EXPECT_EQ(m.run(sti, m.op(4)), Outcome::Fault);
  expect_fault(m.cpu, GP, 0);
  set_rflags(m.cpu, 0x3202);
  EXPECT_EQ(m.run(cli, m.op(4)), Outcome::Next);
  EXPECT_FALSE(rflags(m.cpu) & rflags::IF);
}

TEST(Popf, ChangesWhatTheLevelMay) {
  TestMachine m;
  const u64 all = 0x247FD7; // everything but RF, VM, VIF, VIP
  m.long_mode(0);
  m.push({all}, 8);
  EXPECT_EQ(m.run(popf, m.op(8)), Outcome::Next);
  EXPECT_EQ(rflags(m.cpu), all);
  m.long_mode(3);
  m.push({0x3000 | rflags::CF}, 8);
  EXPECT_EQ(m.run(popf, m.op(8)), Outcome::Next);
  EXPECT_EQ(rflags(m.cpu), 0x202u | rflags::CF) << "neither IOPL nor IF";
  EXPECT_EQ(m.cpu.gpr[RSP], M::kStack3);
}

TEST(Popf, NeedsIoplInVirtual8086ModeButForVme) {
  TestMachine m;
  m.v86_mode(0);
  m.cpu.gpr[RSP] = M::kStack3;
  m.push({0x200}, 2);
  EXPECT_EQ(m.run(popf, m.op(2)), Outcome::Fault);
  expect_fault(m.cpu, GP, 0);
  m.cpu.cr4 |= cr4::VME;
  EXPECT_EQ(m.run(popf, m.op(2)), Outcome::Next);
  EXPECT_TRUE(rflags(m.cpu) & rflags::VIF);
  EXPECT_EQ(m.run(pushf, m.op(2)), Outcome::Next);
  EXPECT_EQ(m.stack(0, 2), 0x3202u) << "VIF as IF, and IOPL 3";
  EXPECT_EQ(m.run(pushf, m.op(4)), Outcome::Fault);
  m.push({rflags::TF}, 2);
  EXPECT_EQ(m.run(popf, m.op(2)), Outcome::Fault);
  expect_fault(m.cpu, GP, 0);
}

TEST(Pushf, HidesVmAndRf) {
  TestMachine m;
  m.v86_mode(3);
  m.cpu.gpr[RSP] = M::kStack3;
  set_rflags(m.cpu, rflags(m.cpu) | rflags::RF);
  EXPECT_EQ(m.run(pushf, m.op(4)), Outcome::Next);
  EXPECT_EQ(m.stack(0, 4), 0x3202u);
}

TEST(Syscall, EntersLevel0AndSysretLeavesIt) {
  TestMachine m;
  m.long_mode(3);
  m.cpu.msr.star = static_cast<u64>(0x1B) << 48 | static_cast<u64>(M::kCode64) << 32;
  m.cpu.msr.lstar = 0xFFFF800000001000;
  m.cpu.msr.sfmask = rflags::IF | rflags::TF;
  EXPECT_EQ(m.run(syscall, m.op(8)), Outcome::Branch);
  EXPECT_EQ(m.cpu.rip, 0xFFFF800000001000u);
  EXPECT_EQ(m.cpu.gpr[RCX], M::kCode + 2);
  EXPECT_EQ(m.cpu.gpr[R11], 0x202u);
  EXPECT_EQ(rflags(m.cpu), 2u);
  EXPECT_EQ(m.cpu.cpl, 0);
  EXPECT_EQ(m.cpu.segments[SS].selector, M::kCode64 + 8);
  EXPECT_EQ(m.run(sysret, m.op(8)), Outcome::Branch);
  EXPECT_EQ(m.cpu.rip, M::kCode + 2);
  EXPECT_EQ(m.cpu.cpl, 3);
  EXPECT_EQ(m.cpu.segments[CS].selector, 0x2B);
  EXPECT_EQ(m.cpu.segments[SS].selector, 0x23);
  EXPECT_EQ(rflags(m.cpu), 0x202u);
}

TEST(Syscall, FailsByEachRule) {
  TestMachine m;
  m.long_mode(3);
  EXPECT_EQ(m.run(sysret, m.op(8)), Outcome::Fault);
  expect_fault(m.cpu, GP, 0);
  m.cpu.efer &= ~efer::SCE;
  EXPECT_EQ(m.run(syscall, m.op(8)), Outcome::Fault);
  expect_fault(m.cpu, UD, -1);
  m.long_mode(0);
  m.cpu.gpr[RCX] = 1ull << 47;
  EXPECT_EQ(m.run(sysret, m.op(8)), Outcome::Fault);
  expect_fault(m.cpu, GP, 0);
  m.compatibility_mode(3);
  EXPECT_EQ(m.run(syscall, m.op(4)), Outcome::Fault);
  expect_fault(m.cpu, UD, -1);
}

TEST(Sysenter, UsesItsMsrsAndSysexitReturns) {
  TestMachine m;
  m.protected_mode(3);
  EXPECT_EQ(m.run(sysenter, m.op(4)), Outcome::Fault) << "no SYSENTER_CS";
  expect_fault(m.cpu, GP, 0);
  m.cpu.msr.sysenter_cs = 8;
  m.cpu.msr.sysenter_esp = M::kStack0;
  m.cpu.msr.sysenter_eip = 0x1234;
  EXPECT_EQ(m.run(sysexit, m.op(4)), Outcome::Fault);
  expect_fault(m.cpu, GP, 0);
  EXPECT_EQ(m.run(sysenter, m.op(4)), Outcome::Branch);
  EXPECT_EQ(m.cpu.rip, 0x1234u);
  EXPECT_EQ(m.cpu.gpr[RSP], M::kStack0);
  EXPECT_EQ(m.cpu.segments[CS].selector, 8);
  EXPECT_FALSE(rflags(m.cpu) & rflags::IF);
  m.cpu.gpr[RDX] = 0x4444, m.cpu.gpr[RCX] = M::kStack3;
  EXPECT_EQ(m.run(sysexit, m.op(4)), Outcome::Branch);
  EXPECT_EQ(m.cpu.rip, 0x4444u);
  EXPECT_EQ(m.cpu.cpl, 3);
  EXPECT_EQ(m.cpu.segments[CS].selector, 0x1B);
}

} // namespace
} // namespace abyme::soft::system
