#include "soft/system/instructions.hpp"
#include "soft/system/test_machine.hpp"
#include "x86/msr.hpp"

namespace abyme::soft::system {
namespace {

using namespace x86;
using M = TestMachine;

TEST(Msr, KeepsWhatIsWritten) {
  TestMachine m;
  m.long_mode(0);
  struct Row {
    u32 number;
    u64 value;
  };
  const Row rows[] = {
      {msr::IA32_STAR, 0x123456789ABCDEF0},
      {msr::IA32_LSTAR, 0xFFFF800000000000},
      {msr::IA32_FMASK, 0x47700},
      {msr::IA32_SYSENTER_CS, 0x10},
      {msr::IA32_SYSENTER_EIP, 0x7FFFFFFFFFFF},
      {msr::IA32_KERNEL_GS_BASE, 0x1000},
      {msr::IA32_FS_BASE, 0x2000},
      {msr::IA32_GS_BASE, 0x3000},
      {msr::IA32_TSC_AUX, 0xFFFFFFFF},
      {msr::IA32_PAT, 0x0007040600070406},
      {msr::IA32_MTRR_DEF_TYPE, 0xC06},
      {msr::IA32_MTRR_PHYSBASE0, 0x80000000},
      {msr::IA32_MTRR_PHYSMASK0 + 14, 0x800},
      {msr::IA32_MTRR_FIX64K_00000, 0x0606060606060606},
      {msr::IA32_MTRR_FIX4K_F8000, 0x0505050505050505},
      {msr::IA32_MCG_STATUS, 7},
      {msr::IA32_DEBUGCTL, 3},
  };
  for (const Row &row : rows) {
    u64 value = 0;
    SCOPED_TRACE(row.number);
    EXPECT_TRUE(write_msr(m.cpu, row.number, row.value));
    EXPECT_TRUE(read_msr(m.cpu, row.number, value));
    EXPECT_EQ(value, row.value);
  }
}

TEST(Msr, RefusesValuesThatAreNotValid) {
  TestMachine m;
  m.long_mode(0);
  struct Row {
    u32 number;
    u64 value;
  };
  const Row rows[] = {
      {msr::IA32_LSTAR, 1ull << 47},
      {msr::IA32_SYSENTER_ESP, 1ull << 63},
      {msr::IA32_FMASK, 1ull << 32},
      {msr::IA32_FS_BASE, 1ull << 47},
      {msr::IA32_TSC_AUX, 1ull << 32},
      {msr::IA32_PAT, 2},
      {msr::IA32_PAT, 0xFF},
      {msr::IA32_MTRR_DEF_TYPE, 2},
      {msr::IA32_MTRR_DEF_TYPE, 1 << 12},
      {msr::IA32_MTRR_PHYSBASE0, 7},
      {msr::IA32_MTRR_PHYSMASK0, 1},
      {msr::IA32_MTRR_FIX16K_80000, 3},
      {msr::IA32_MTRRCAP, 0},
      {msr::IA32_EFER, 2},
      {msr::IA32_FEATURE_CONTROL, 5},
      {msr::IA32_VMX_BASIC, 0},
      {msr::IA32_DEBUGCTL, 1 << 6},
      {msr::IA32_MISC_ENABLE, 1ull << 63},
      {msr::IA32_PLATFORM_ID, 0},
      {msr::IA32_SPEC_CTRL, 1 << 10},
      {msr::IA32_XSS, 1},
  };
  for (const Row &row : rows) {
    SCOPED_TRACE(row.number);
    EXPECT_FALSE(write_msr(m.cpu, row.number, row.value));
  }
}

TEST(Msr, DoesNotHaveWhatCpuidDoesNotTell) {
  TestMachine m("max,-vmx");
  u64 value;
  for (u32 number :
       {0x186u, 0xC1u, 0x38Fu, 0x345u, 0x400u, 0x17Bu, 0xE7u, 0x570u, 0xC0010015u, 0x40000000u, 0x3Au, 0x480u})
    EXPECT_FALSE(read_msr(m.cpu, number, value)) << number;
}

TEST(Msr, OffersVmxLockedOnOutsideOfSmx) {
  TestMachine m;
  u64 value = 0;
  EXPECT_TRUE(read_msr(m.cpu, msr::IA32_FEATURE_CONTROL, value));
  EXPECT_EQ(value, 5u);
  EXPECT_TRUE(read_msr(m.cpu, msr::IA32_VMX_BASIC, value));
}

TEST(Msr, TscFollowsTheClockItsWritesAndItsAdjustment) {
  TestMachine m;
  u64 value = 0;
  m.clock().advance(1000);
  EXPECT_TRUE(write_msr(m.cpu, msr::IA32_TIME_STAMP_COUNTER, 5000));
  m.clock().advance(10);
  EXPECT_TRUE(read_msr(m.cpu, msr::IA32_TIME_STAMP_COUNTER, value));
  EXPECT_EQ(value, 5010u);
  EXPECT_TRUE(read_msr(m.cpu, msr::IA32_TSC_ADJUST, value));
  EXPECT_EQ(value, 4000u);
  EXPECT_TRUE(write_msr(m.cpu, msr::IA32_TSC_ADJUST, 0));
  EXPECT_EQ(tsc(m.cpu), 1010u);
}

TEST(Msr, ReachesTheLocalApic) {
  TestMachine m;
  u64 value = 0;
  EXPECT_TRUE(read_msr(m.cpu, msr::IA32_APIC_BASE, value));
  EXPECT_EQ(value & ~0xFFFull, 0xFEE00000u);
  EXPECT_FALSE(read_msr(m.cpu, 0x802, value)) << "not in x2APIC mode";
  EXPECT_TRUE(read_msr(m.cpu, msr::IA32_APIC_BASE, value));
  EXPECT_TRUE(write_msr(m.cpu, msr::IA32_APIC_BASE, value | 1 << 11));
  EXPECT_TRUE(write_msr(m.cpu, msr::IA32_APIC_BASE, value | 3 << 10));
  EXPECT_TRUE(read_msr(m.cpu, 0x803, value));
  EXPECT_EQ(value & 0xFF, 0x14u);
}

TEST(Rdmsr, NeedsCpl0AndAKnownNumber) {
  TestMachine m;
  m.long_mode(0);
  m.cpu.gpr[RCX] = msr::IA32_STAR;
  m.cpu.msr.star = 0x1122334455667788;
  EXPECT_EQ(m.run(rdmsr, m.op(4)), Outcome::Next);
  EXPECT_EQ(m.cpu.gpr[RAX], 0x55667788u);
  EXPECT_EQ(m.cpu.gpr[RDX], 0x11223344u);
  EXPECT_EQ(m.run(wrmsr, m.op(4)), Outcome::Branch);
  m.cpu.gpr[RCX] = 0x12345;
  EXPECT_EQ(m.run(rdmsr, m.op(4)), Outcome::Fault);
  expect_fault(m.cpu, GP, 0);
  m.long_mode(3);
  m.cpu.gpr[RCX] = msr::IA32_STAR;
  EXPECT_EQ(m.run(wrmsr, m.op(4)), Outcome::Fault);
  expect_fault(m.cpu, GP, 0);
}

CpuidLeaf ask(M &m, u32 leaf, u32 subleaf = 0) {
  m.cpu.gpr[RAX] = leaf, m.cpu.gpr[RCX] = subleaf;
  EXPECT_EQ(m.run(cpuid, m.op(4)), Outcome::Next);
  auto reg = [&](Gpr r) { return static_cast<u32>(m.cpu.gpr[r]); };
  return {leaf, subleaf, true, reg(RAX), reg(RBX), reg(RCX), reg(RDX)};
}

TEST(Cpuid, AddsWhatDependsOnTheVcpu) {
  TestMachine m;
  m.long_mode(0);
  m.cpu.index = 5;
  EXPECT_EQ(ask(m, 1).ebx >> 24, 5u);
  EXPECT_EQ(ask(m, 0xB, 0).edx, 5u);
  EXPECT_FALSE(ask(m, 1).ecx >> 27 & 1);
  m.cpu.cr4 |= cr4::OSXSAVE;
  EXPECT_EQ(ask(m, 1).ecx >> 27 & 1, m.profile().has(Feature::xsave));
}

TEST(Cpuid, SizesTheXsaveAreaByWhatIsEnabled) {
  TestMachine m;
  if (!m.profile().has(Feature::avx) || !m.profile().has(Feature::xsave)) GTEST_SKIP() << "the host has no AVX";
  m.cpu.xcr0 = 3;
  EXPECT_EQ(ask(m, 0xD).ebx, 576u);
  m.cpu.xcr0 = 7;
  EXPECT_EQ(ask(m, 0xD).ebx, 832u);
}

TEST(Cpuid, TellsOfSyscallIn64BitModeOnly) {
  TestMachine m;
  m.long_mode(0);
  EXPECT_TRUE(ask(m, 0x80000001).edx >> 11 & 1);
  m.protected_mode(0);
  EXPECT_FALSE(ask(m, 0x80000001).edx >> 11 & 1);
}

} // namespace
} // namespace abyme::soft::system
