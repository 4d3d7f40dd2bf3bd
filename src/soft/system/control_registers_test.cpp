#include "soft/system/control_registers.hpp"
#include "soft/system/instructions.hpp"
#include "soft/system/test_machine.hpp"

namespace abyme::soft::system {
namespace {

using namespace x86;
using M = TestMachine;

TEST(Cr0, TurnsOnLongModeWithPaging) {
  TestMachine m;
  m.protected_mode(0);
  m.cpu.cr3 = M::kPaging;
  ASSERT_TRUE(write_cr4(m.cpu, cr4::PAE));
  ASSERT_TRUE(write_efer(m.cpu, efer::LME | efer::LMA));
  EXPECT_FALSE(m.cpu.long_mode()) << "LMA cannot be written";
  ASSERT_TRUE(write_cr0(m.cpu, cr0::PE | cr0::PG));
  EXPECT_TRUE(m.cpu.long_mode());
  EXPECT_FALSE(write_efer(m.cpu, 0)) << "LME is fixed while paging is on";
  ASSERT_TRUE(write_cr0(m.cpu, cr0::PE));
  EXPECT_FALSE(m.cpu.long_mode());
}

TEST(Cr0, FailsByEachRule) {
  struct Case {
    const char *name;
    std::function<void(M &)> prepare;
    u64 value;
  };
  auto protected_mode = [](M &m) { m.protected_mode(0); };
  auto long_mode = [](M &m) { m.long_mode(0); };
  auto lme = [](M &m) { m.protected_mode(0), m.cpu.efer = efer::LME; };
  const Case cases[] = {
      {"upper half", protected_mode, 1ull << 32 | cr0::PE},
      {"PG without PE", protected_mode, cr0::PG},
      {"NW without CD", protected_mode, cr0::PE | cr0::NW},
      {"clearing PG in 64-bit mode", long_mode, cr0::PE},
      {"clearing PG with PCIDE", [](M &m) { m.compatibility_mode(0), m.cpu.cr4 |= cr4::PCIDE; }, cr0::PE},
      {"PG with LME and without PAE", lme, cr0::PE | cr0::PG},
      {"PG with LME and CS.L", [&](M &m) { lme(m), m.cpu.cr4 = cr4::PAE, m.cpu.segments[CS] = m.segment(M::kCode64); },
       cr0::PE | cr0::PG},
      {"PG with LME and a 16-bit TSS", [&](M &m) { lme(m), m.cpu.cr4 = cr4::PAE, m.cpu.tr.rights = 0x83; },
       cr0::PE | cr0::PG},
  };
  for (const Case &c : cases) {
    SCOPED_TRACE(c.name);
    TestMachine m;
    c.prepare(m);
    u64 before = m.cpu.cr0;
    EXPECT_FALSE(write_cr0(m.cpu, c.value));
    expect_fault(m.cpu, GP, 0);
    EXPECT_EQ(m.cpu.cr0, before);
  }
}

TEST(Cr3, RefusesReservedBitsAndKeepsNoFlushToItself) {
  TestMachine m;
  m.long_mode(0);
  EXPECT_FALSE(write_cr3(m.cpu, 1ull << m.profile().physical_bits));
  expect_fault(m.cpu, GP, 0);
  EXPECT_FALSE(write_cr3(m.cpu, 1ull << 63 | M::kPaging)) << "bit 63 without PCIDE";
  ASSERT_TRUE(write_cr4(m.cpu, m.cpu.cr4 | cr4::PCIDE));
  EXPECT_TRUE(write_cr3(m.cpu, 1ull << 63 | M::kPaging | 1));
  EXPECT_EQ(m.cpu.cr3, M::kPaging | 1);
}

TEST(Cr4, FailsByEachRule) {
  TestMachine m;
  m.long_mode(0);
  EXPECT_FALSE(write_cr4(m.cpu, cr4::PAE | cr4::SMXE)) << "not offered";
  EXPECT_FALSE(write_cr4(m.cpu, 0)) << "PAE in long mode";
  m.cpu.cr3 |= 8;
  EXPECT_FALSE(write_cr4(m.cpu, cr4::PAE | cr4::PCIDE)) << "PCIDE with a PCID";
  m.protected_mode(0);
  EXPECT_FALSE(write_cr4(m.cpu, cr4::PCIDE)) << "PCIDE outside of long mode";
  EXPECT_TRUE(write_cr4(m.cpu, cr4::PSE | cr4::OSFXSR));
}

TEST(Cr4, OffersVmxeWithVmxAlone) {
  EXPECT_TRUE(cr4_writable(TestMachine("max").profile()) & cr4::VMXE);
  EXPECT_FALSE(cr4_writable(TestMachine("max,-vmx").profile()) & cr4::VMXE);
}

TEST(Efer, RefusesReservedBits) {
  TestMachine m;
  m.protected_mode(0);
  EXPECT_FALSE(write_efer(m.cpu, 1 << 1));
  expect_fault(m.cpu, GP, 0);
  EXPECT_TRUE(write_efer(m.cpu, efer::SCE | efer::NXE));
}

TEST(Xcr0, FollowsTheComponentsRules) {
  TestMachine m;
  m.long_mode(0);
  EXPECT_FALSE(write_xcr0(m.cpu, 0));
  EXPECT_FALSE(write_xcr0(m.cpu, 5)) << "AVX without SSE";
  EXPECT_FALSE(write_xcr0(m.cpu, ~0ull));
  EXPECT_TRUE(write_xcr0(m.cpu, 3));
}

TEST(Xsetbv, NeedsOsxsaveThenCpl0ThenIndex0) {
  TestMachine m;
  m.long_mode(3);
  m.cpu.gpr[RCX] = 1;
  EXPECT_EQ(m.run(xsetbv, m.op(4)), Outcome::Fault);
  expect_fault(m.cpu, UD, -1);
  m.cpu.cr4 |= cr4::OSXSAVE;
  EXPECT_EQ(m.run(xsetbv, m.op(4)), Outcome::Fault);
  expect_fault(m.cpu, GP, 0);
  m.long_mode(0);
  m.cpu.cr4 |= cr4::OSXSAVE;
  m.cpu.gpr[RAX] = 3, m.cpu.gpr[RCX] = m.cpu.gpr[RDX] = 0;
  EXPECT_EQ(m.run(xsetbv, m.op(4)), Outcome::Branch);
  m.cpu.gpr[RAX] = 0;
  EXPECT_EQ(m.run(xgetbv, m.op(4)), Outcome::Next);
  EXPECT_EQ(m.cpu.gpr[RAX], 3u);
}

TEST(MovCr, NamesOnlyRegistersThatExistAndNeedsCpl0) {
  TestMachine m;
  m.long_mode(0);
  for (u8 cr : {1, 5, 6, 7, 9, 15}) {
    EXPECT_EQ(m.run(mov_to_cr, m.op(8, cr)), Outcome::Fault);
    expect_fault(m.cpu, UD, -1);
  }
  m.cpu.gpr[RAX] = 16;
  EXPECT_EQ(m.run(mov_to_cr, m.op(8, 8)), Outcome::Fault) << "CR8 has four bits";
  expect_fault(m.cpu, GP, 0);
  m.cpu.gpr[RAX] = 7;
  EXPECT_EQ(m.run(mov_to_cr, m.op(8, 8)), Outcome::Branch);
  m.cpu.gpr[RAX] = 0;
  EXPECT_EQ(m.run(mov_from_cr, m.op(8, 8)), Outcome::Next);
  EXPECT_EQ(m.cpu.gpr[RAX], 7u);
  m.long_mode(3);
  EXPECT_EQ(m.run(mov_from_cr, m.op(8, 0)), Outcome::Fault);
  expect_fault(m.cpu, GP, 0);
}

TEST(Lmsw, SetsPeButCannotClearIt) {
  TestMachine m;
  m.real_mode();
  m.cpu.gpr[RAX] = 0x1 | 0x8;
  EXPECT_EQ(m.run(lmsw, m.op(2)), Outcome::Branch);
  EXPECT_EQ(m.cpu.cr0 & 0xF, 9u);
  m.cpu.gpr[RAX] = 0;
  EXPECT_EQ(m.run(lmsw, m.op(2)), Outcome::Branch);
  EXPECT_EQ(m.cpu.cr0 & 0xF, 1u);
  m.cpu.cr0 |= cr0::TS;
  EXPECT_EQ(m.run(clts, m.op(2)), Outcome::Branch);
  EXPECT_FALSE(m.cpu.cr0 & cr0::TS);
}

TEST(Smsw, IsForLevel0WithUmip) {
  TestMachine m;
  m.protected_mode(3);
  EXPECT_EQ(m.run(smsw, m.op(4)), Outcome::Next);
  m.cpu.cr4 |= cr4::UMIP;
  EXPECT_EQ(m.run(smsw, m.op(4)), Outcome::Fault);
  expect_fault(m.cpu, GP, 0);
}

TEST(MovDr, KeepsFixedBitsAndDetectsAccess) {
  TestMachine m;
  m.long_mode(0);
  m.cpu.gpr[RAX] = 0xFFFFFFFF;
  EXPECT_EQ(m.run(mov_to_dr, m.op(8, 6)), Outcome::Branch);
  EXPECT_EQ(m.cpu.dr6, 0xFFFFEFFFu);
  m.cpu.gpr[RAX] = 1ull << 32;
  EXPECT_EQ(m.run(mov_to_dr, m.op(8, 7)), Outcome::Fault);
  expect_fault(m.cpu, GP, 0);
  m.cpu.cr4 |= cr4::DE;
  EXPECT_EQ(m.run(mov_from_dr, m.op(8, 4)), Outcome::Fault);
  expect_fault(m.cpu, UD, -1);
  m.cpu.gpr[RAX] = 1 << 13;
  EXPECT_EQ(m.run(mov_to_dr, m.op(8, 7)), Outcome::Branch);
  EXPECT_EQ(m.cpu.dr7, 0x2400u);
  EXPECT_EQ(m.run(mov_from_dr, m.op(8, 0)), Outcome::Fault);
  expect_fault(m.cpu, DB, -1);
  EXPECT_EQ(m.cpu.fault.event.address, 1u << 13);
  m.cpu.cpl = 3;
  EXPECT_EQ(m.run(mov_from_dr, m.op(8, 0)), Outcome::Fault);
  expect_fault(m.cpu, GP, 0);
}

} // namespace
} // namespace abyme::soft::system
