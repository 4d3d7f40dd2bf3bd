#include "soft/mmu/access.hpp"
#include "soft/mmu/fast.hpp"
#include "soft/vmx/test_guest.hpp"

// The guest-state area as exits save it, the host-state area as they load it.
namespace abyme::soft::vmx {
namespace {

using namespace x86;

void leave(TestGuest &g) { EXPECT_TRUE(intercepts(g.cpu, TestGuest::op(), Instruction::Cpuid)); }

TEST(VmxState, ExitLoadsEveryHostField) {
  TestGuest g;
  g.set(Field::HostCr0, g.get(Field::HostCr0) | cr0::WP | cr0::AM);
  g.set(Field::HostCr4, g.get(Field::HostCr4) | cr4::PGE | cr4::OSFXSR);
  g.set(Field::HostPat, 0x0007'0406'0007'0401);
  g.set(Field::HostSysenterCs, 0x10);
  g.set(Field::HostSysenterEsp, 0x1111);
  g.set(Field::HostSysenterEip, 0x2222);
  g.set(Field::HostFsSelector, 0);
  g.set(Field::HostFsBase, 0x3333);
  g.set(Field::HostGsSelector, system::TestMachine::kData0);
  g.set(Field::HostGsBase, 0x4444);
  g.set(Field::GuestDr7, 0x455);
  g.set(Field::GuestDebugctl, 1);
  g.set(Field::GuestCr3, 0x30000);
  g.must_enter();
  EXPECT_EQ(g.cpu.dr7, 0x455u);
  EXPECT_EQ(g.cpu.msr.debugctl, 1u);
  leave(g);
  EXPECT_EQ(g.cpu.cr0, g.get(Field::HostCr0));
  EXPECT_EQ(g.cpu.cr3, system::TestMachine::kPaging);
  EXPECT_EQ(g.cpu.cr4, g.get(Field::HostCr4));
  EXPECT_EQ(g.cpu.msr.pat, 0x0007'0406'0007'0401u);
  EXPECT_EQ(g.cpu.msr.sysenter_cs, 0x10u);
  EXPECT_EQ(g.cpu.msr.sysenter_esp, 0x1111u);
  EXPECT_EQ(g.cpu.msr.sysenter_eip, 0x2222u);
  EXPECT_FALSE(g.cpu.segments[FS].usable());
  EXPECT_EQ(g.cpu.segments[FS].base, 0x3333u);
  EXPECT_TRUE(g.cpu.segments[GS].usable());
  EXPECT_EQ(g.cpu.segments[GS].base, 0x4444u);
  EXPECT_EQ(g.cpu.dr7, 0x400u);
  EXPECT_EQ(g.cpu.msr.debugctl, 0u);
  EXPECT_EQ(g.cpu.segments[CS].selector, system::TestMachine::kCode64);
  EXPECT_TRUE(g.cpu.segments[CS].is_long());
  EXPECT_EQ(g.cpu.tr.limit, 0x67u);
  EXPECT_FALSE(g.cpu.ldtr.usable());
  EXPECT_EQ(g.cpu.gdtr, (TableRegister{system::TestMachine::kGdt, 0xFFFF}));
  EXPECT_EQ(g.cpu.idtr, (TableRegister{system::TestMachine::kIdt, 0xFFFF}));
  EXPECT_EQ(g.cpu.cpl, 0);
}

TEST(VmxState, ExitSavesWhatTheGuestChanged) {
  TestGuest g;
  g.must_enter();
  g.cpu.cr3 = 0x30000;
  g.cpu.cr4 |= cr4::PGE;
  g.cpu.msr.sysenter_eip = 0x77;
  g.cpu.msr.pat = 0x0606;
  g.cpu.dr7 = 0x401;
  g.cpu.segments[DS] = {0x10000, 0xFFF, 0x40F3, 0x23};
  g.cpu.segments[SS].rights = Segment::kUnusable;
  g.cpu.cpl = 3;
  g.cpu.gdtr = {0x5000, 0x7F};
  g.cpu.rip = 0x1234;
  g.cpu.gpr[RSP] = 0x5678;
  set_rflags(g.cpu, 0x8D7);
  g.cpu.shadow = kShadowSti;
  leave(g);
  EXPECT_EQ(g.get(Field::GuestCr3), 0x30000u);
  EXPECT_TRUE(g.get(Field::GuestCr4) & cr4::PGE);
  EXPECT_EQ(g.get(Field::GuestSysenterEip), 0x77u);
  EXPECT_EQ(g.get(Field::GuestPat), 0x0606u);
  EXPECT_EQ(g.get(Field::GuestDr7), 0x401u);
  EXPECT_EQ(g.get(Field::GuestDsBase), 0x10000u);
  EXPECT_EQ(g.get(Field::GuestDsLimit), 0xFFFu);
  EXPECT_EQ(g.get(Field::GuestDsRights), 0x40F3u);
  EXPECT_EQ(g.get(Field::GuestDsSelector), 0x23u);
  EXPECT_EQ(g.get(Field::GuestSsRights), Segment::kUnusable | 3u << 5); // its DPL is the CPL
  EXPECT_EQ(g.get(Field::GuestGdtrLimit), 0x7Fu);
  EXPECT_EQ(g.get(Field::GuestRip), 0x1234u);
  EXPECT_EQ(g.get(Field::GuestRsp), 0x5678u);
  EXPECT_EQ(g.get(Field::GuestRflags), 0x8D7u);
  EXPECT_EQ(g.get(Field::GuestInterruptibility), 1u);
  EXPECT_EQ(g.cpu.shadow, 0);
}

TEST(VmxState, UnsavedStateStays) {
  TestGuest g;
  g.clear(Field::ExitControls, exit_control::SavePat | exit_control::SaveEfer | exit_control::SaveDebugControls);
  g.must_enter();
  const u64 efer = g.get(Field::GuestEfer), pat = g.get(Field::GuestPat);
  g.cpu.msr.pat = 0x0606;
  g.cpu.efer ^= efer::SCE;
  g.cpu.dr7 = 0x401;
  leave(g);
  EXPECT_EQ(g.get(Field::GuestPat), pat);
  EXPECT_EQ(g.get(Field::GuestEfer), efer);
  EXPECT_EQ(g.get(Field::GuestDr7), 0x400u);
}

TEST(VmxState, LmaOfTheGuestFollowsItsMode) {
  TestGuest g;
  g.protected_guest();
  g.must_enter();
  g.cpu.efer |= efer::LMA | efer::LME;
  leave(g);
  EXPECT_TRUE(g.get(Field::EntryControls) & entry_control::Ia32eModeGuest);
}

TEST(VmxState, EntryKeepsCacheBitsOfCr0) {
  TestGuest g;
  g.or_in(Field::GuestCr0, cr0::CD | cr0::NW);
  g.must_enter();
  EXPECT_FALSE(g.cpu.cr0 & (cr0::CD | cr0::NW));
}

// Without VPIDs both worlds share a tag: translations of the one must not outlive it (SDM 3C §29.4.3.2).
constexpr u64 kCached = 0x201000;

bool cached(const Cpu &cpu) { return probe_tlb_read(cpu, kCached, 8) != nullptr; }

TEST(VmxState, WithoutVpidTransitionsFlush) {
  TestGuest g;
  g.shadow_paging_guest();
  g.clear(Field::SecondaryControls, secondary::EnableVpid);
  u64 value;
  EXPECT_TRUE(read_linear(g.cpu, kCached, value));
  EXPECT_TRUE(cached(g.cpu));
  g.must_enter();
  EXPECT_FALSE(cached(g.cpu));
  EXPECT_TRUE(read_linear(g.cpu, kCached, value));
  EXPECT_TRUE(cached(g.cpu));
  leave(g);
  EXPECT_FALSE(cached(g.cpu));
}

TEST(VmxState, WithVpidTranslationsSurvive) {
  TestGuest g;
  u64 value;
  EXPECT_TRUE(read_linear(g.cpu, kCached, value));
  g.must_enter();
  EXPECT_FALSE(cached(g.cpu));
  EXPECT_TRUE(read_linear(g.cpu, kCached, value));
  leave(g);
  EXPECT_TRUE(cached(g.cpu));
  g.must_enter();
  EXPECT_TRUE(cached(g.cpu));
}

TEST(VmxState, ResetLeavesVmxOperation) {
  TestGuest g;
  g.must_enter();
  reset(g.cpu);
  EXPECT_EQ(g.cpu.vmx_mode, VmxMode::Off);
  EXPECT_FALSE(g.cpu.ept_enabled);
  EXPECT_FALSE(g.cpu.vmx->vmcs.valid());
}

} // namespace
} // namespace abyme::soft::vmx
