#include "soft/vmx/test_guest.hpp"

namespace abyme::soft::vmx {
namespace {

using x86::ExitReason;
using x86::VmxError;

TEST(VmxEntry, LoadsTheGuestAndExitRestoresTheHost) {
  TestGuest g;
  g.must_enter();
  EXPECT_EQ(g.cpu.rip, TestGuest::kGuestRip);
  EXPECT_EQ(g.cpu.gpr[x86::RSP], TestGuest::kGuestRsp);
  EXPECT_TRUE(g.cpu.ept_enabled);
  EXPECT_EQ(g.cpu.vpid, 1);
  EXPECT_TRUE(intercepts(g.cpu, TestGuest::op(), Instruction::Cpuid));
  EXPECT_TRUE(g.exited(ExitReason::Cpuid));
  EXPECT_EQ(g.cpu.rip, TestGuest::kHostRip);
  EXPECT_EQ(g.cpu.gpr[x86::RSP], TestGuest::kHostRsp);
  EXPECT_EQ(rflags(g.cpu), x86::rflags::kFixed);
  EXPECT_FALSE(g.cpu.ept_enabled);
  EXPECT_EQ(g.cpu.vpid, 0);
  EXPECT_EQ(g.get(Field::GuestRip), TestGuest::kGuestRip);
  EXPECT_EQ(g.get(Field::ExitInstructionLength), 2u);
  EXPECT_TRUE(g.cpu.vmx->vmcs.launched);
}

TEST(VmxEntry, LaunchStateDecidesBetweenLaunchAndResume) {
  TestGuest g;
  EXPECT_EQ(g.run(vmresume, TestGuest::op()), Outcome::Next);
  EXPECT_EQ(g.get(Field::InstructionError), static_cast<u64>(VmxError::VmresumeNonLaunched));
  g.must_enter();
  EXPECT_TRUE(intercepts(g.cpu, TestGuest::op(), Instruction::Cpuid));
  EXPECT_EQ(g.run(vmlaunch, TestGuest::op()), Outcome::Next);
  EXPECT_EQ(g.get(Field::InstructionError), static_cast<u64>(VmxError::VmlaunchNonClear));
  g.must_enter();
}

TEST(VmxEntry, BlockedByMovSs) {
  TestGuest g;
  g.cpu.shadow = kShadowMovSs;
  EXPECT_EQ(g.enter(), Outcome::Next);
  EXPECT_EQ(g.get(Field::InstructionError), static_cast<u64>(VmxError::EntryBlockedByMovSs));
}

TEST(VmxEntry, WithoutCurrentVmcsFailsInvalid) {
  TestGuest g;
  g.pointer(vmclear, TestGuest::kVmcs);
  EXPECT_EQ(g.enter(), Outcome::Next);
  EXPECT_EQ(g.cpu.status, pack_status(x86::rflags::CF));
}

TEST(VmxEntry, EntersRealProtectedV86AndPaeGuests) {
  {
    TestGuest g;
    g.real_guest();
    g.must_enter();
    EXPECT_TRUE(g.cpu.mode & kModeReal);
  }
  {
    TestGuest g;
    g.protected_guest();
    g.must_enter();
    EXPECT_TRUE(g.cpu.mode & kModeCode32);
  }
  {
    TestGuest g;
    g.v86_guest();
    g.must_enter();
    EXPECT_TRUE(g.cpu.mode & kModeV86);
    EXPECT_EQ(g.cpu.cpl, 3);
  }
  TestGuest g;
  g.pae_guest();
  g.set(Field::GuestPdpte2, 0x5001);
  g.must_enter();
  EXPECT_EQ(g.cpu.pdpte[2], 0x5001u);
}

TEST(VmxEntry, WithoutEptReadsPdptesFromMemory) {
  TestGuest g;
  g.pae_guest();
  g.shadow_paging_guest();
  g.machine.store<u64>(TestGuest::kPdptes + 8, 0x7001);
  g.must_enter();
  EXPECT_EQ(g.cpu.pdpte[1], 0x7001u);
}

// --- injection ---

TEST(VmxEntry, InjectsAnExternalInterruptThroughTheGuestsIdt) {
  TestGuest g;
  g.or_in(Field::GuestRflags, x86::rflags::IF);
  g.machine.set_gate64(0x40, system::make_gate(system::TestMachine::kCode64, 0xB000, 14, 0));
  g.set(Field::EntryInterruption, x86::interruption::kValid | 0x40);
  g.must_enter();
  EXPECT_EQ(g.cpu.rip, 0xB000u);
  EXPECT_EQ(g.machine.stack(0), TestGuest::kGuestRip);
  EXPECT_TRUE(intercepts(g.cpu, TestGuest::op(), Instruction::Cpuid));
  EXPECT_FALSE(g.get(Field::EntryInterruption) & x86::interruption::kValid);
}

TEST(VmxEntry, InjectedSoftwareInterruptReturnsBehindTheInstruction) {
  TestGuest g;
  g.machine.set_gate64(0x41, system::make_gate(system::TestMachine::kCode64, 0xB000, 14, 0));
  g.set(Field::EntryInterruption, x86::interruption::kValid | 4 << 8 | 0x41);
  g.set(Field::EntryInstructionLength, 2);
  g.must_enter();
  EXPECT_EQ(g.machine.stack(0), TestGuest::kGuestRip + 2);
}

TEST(VmxEntry, InjectedPageFaultLeavesCr2Alone) {
  TestGuest g;
  g.cpu.cr2 = 0x1234;
  g.machine.set_gate64(14, system::make_gate(system::TestMachine::kCode64, 0xB000, 14, 0));
  g.set(Field::EntryInterruption, x86::interruption::kValid | x86::interruption::kErrorValid | 3 << 8 | 14);
  g.set(Field::EntryErrorCode, 5);
  g.must_enter();
  EXPECT_EQ(g.machine.stack(0), 5u);
  EXPECT_EQ(g.cpu.cr2, 0x1234u);
}

TEST(VmxEntry, InjectionThatFaultsIsReportedAsVectoring) {
  TestGuest g;
  g.set(Field::GuestIdtrLimit, 0);
  g.set(Field::ExceptionBitmap, 1 << x86::GP);
  g.set(Field::EntryInterruption, x86::interruption::kValid | 4 << 8 | 0x41);
  g.set(Field::EntryInstructionLength, 2);
  EXPECT_EQ(g.enter(), Outcome::Branch);
  EXPECT_TRUE(g.exited(ExitReason::ExceptionOrNmi));
  EXPECT_EQ(g.get(Field::ExitInterruption) & 0xFF, x86::GP);
  EXPECT_EQ(g.get(Field::IdtVectoring), x86::interruption::kValid | 4 << 8 | 0x41);
  EXPECT_EQ(g.get(Field::ExitInstructionLength), 2u);
  EXPECT_EQ(g.get(Field::GuestRip), TestGuest::kGuestRip);
}

TEST(VmxEntry, InjectedNmiBlocksNmis) {
  TestGuest g;
  g.machine.set_gate64(2, system::make_gate(system::TestMachine::kCode64, 0xB000, 14, 0));
  g.pin(x86::pin::NmiExiting | x86::pin::VirtualNmis);
  g.set(Field::EntryInterruption, x86::interruption::kValid | 2 << 8 | 2);
  g.must_enter();
  EXPECT_TRUE(intercepts(g.cpu, TestGuest::op(), Instruction::Cpuid));
  EXPECT_TRUE(g.get(Field::GuestInterruptibility) & x86::interruptibility::kNmi);
  EXPECT_FALSE(g.cpu.nmi_blocked); // the host's own blocking was never touched
}

TEST(VmxEntry, PendingMtfExitsBeforeTheFirstInstruction) {
  TestGuest g;
  g.set(Field::EntryInterruption, x86::interruption::kValid | 7 << 8);
  g.must_enter();
  EXPECT_TRUE(boundary_events(g.cpu));
  EXPECT_TRUE(g.exited(ExitReason::MonitorTrapFlag));
}

TEST(VmxEntry, PendingDebugExceptionsSurviveOnlyWithoutInjection) {
  for (const bool injects : {false, true}) {
    TestGuest g;
    g.machine.set_gate64(2, system::make_gate(system::TestMachine::kCode64, 0xB000, 14, 0));
    g.set(Field::GuestPendingDebug, 1 << 14 | 1 << 12 | 2);
    if (injects) g.set(Field::EntryInterruption, x86::interruption::kValid | 2 << 8 | 2);
    g.must_enter();
    EXPECT_EQ(g.cpu.pending_debug, injects ? 0u : 1u << 14 | 2);
  }
}

// --- MSR areas ---

void put_msr(TestGuest &g, u64 area, unsigned n, u32 index, u64 data, u32 reserved = 0) {
  g.machine.store<u32>(area + n * 16, index);
  g.machine.store<u32>(area + n * 16 + 4, reserved);
  g.machine.store<u64>(area + n * 16 + 8, data);
}

TEST(VmxEntry, LoadsAndStoresMsrAreas) {
  TestGuest g;
  put_msr(g, TestGuest::kMsrArea + 0x800, 0, x86::msr::IA32_KERNEL_GS_BASE, 0x1111);
  put_msr(g, TestGuest::kMsrArea, 0, x86::msr::IA32_KERNEL_GS_BASE, 0);
  put_msr(g, TestGuest::kMsrArea + 0x400, 0, x86::msr::IA32_KERNEL_GS_BASE, 0x2222);
  g.set(Field::EntryMsrLoadCount, 1);
  g.set(Field::ExitMsrStoreCount, 1);
  g.set(Field::ExitMsrLoadCount, 1);
  g.must_enter();
  EXPECT_EQ(g.cpu.msr.kernel_gs_base, 0x1111u);
  EXPECT_TRUE(intercepts(g.cpu, TestGuest::op(), Instruction::Cpuid));
  EXPECT_EQ(g.machine.load<u64>(TestGuest::kMsrArea + 8), 0x1111u);
  EXPECT_EQ(g.cpu.msr.kernel_gs_base, 0x2222u);
}

TEST(VmxEntry, FailedMsrLoadNamesItsEntry) {
  TestGuest g;
  put_msr(g, TestGuest::kMsrArea + 0x800, 0, x86::msr::IA32_KERNEL_GS_BASE, 1);
  put_msr(g, TestGuest::kMsrArea + 0x800, 1, x86::msr::IA32_FS_BASE, 1);
  g.set(Field::EntryMsrLoadCount, 2);
  EXPECT_EQ(g.enter(), Outcome::Branch);
  EXPECT_EQ(g.get(Field::ExitReason), 0x8000'0022u);
  EXPECT_EQ(g.get(Field::ExitQualification), 2u);
  EXPECT_EQ(g.cpu.rip, TestGuest::kHostRip);
  EXPECT_FALSE(g.cpu.vmx->vmcs.launched);
}

TEST(VmxEntry, HostileMsrCountDoesNotHoldTheCpu) {
  TestGuest g;
  for (unsigned n = 0; n < 600; n++) put_msr(g, 0x100000, n, x86::msr::IA32_KERNEL_GS_BASE, 1);
  g.set(Field::EntryMsrLoadAddress, 0x100000);
  g.set(Field::EntryMsrLoadCount, 600);
  EXPECT_EQ(g.enter(), Outcome::Branch);
  EXPECT_EQ(g.get(Field::ExitQualification), 513u);
}

TEST(VmxExit, FailedMsrStoreAborts) {
  TestGuest g;
  put_msr(g, TestGuest::kMsrArea, 0, 0x800, 0);
  g.set(Field::ExitMsrStoreCount, 1);
  g.must_enter();
  EXPECT_TRUE(intercepts(g.cpu, TestGuest::op(), Instruction::Cpuid));
  EXPECT_EQ(g.cpu.fault.kind, Fault::Kind::VmxAbort);
  EXPECT_EQ(g.machine.load<u32>(TestGuest::kVmcs + 4), static_cast<u32>(x86::VmxAbort::SavingGuestMsrs));
}

// --- preemption timer ---

TEST(VmxPreemptionTimer, ExpiresAndIsSaved) {
  TestGuest g;
  g.pin(x86::pin::PreemptionTimer);
  g.or_in(Field::ExitControls, x86::exit_control::SavePreemptionTimer);
  g.set(Field::PreemptionTimer, 100);
  g.must_enter();
  EXPECT_FALSE(boundary_events(g.cpu));
  EXPECT_EQ(next_deadline(g.cpu), g.machine.clock().now() + (100 << kPreemptionTimerShift));
  g.machine.clock().advance(60 << kPreemptionTimerShift);
  EXPECT_TRUE(intercepts(g.cpu, TestGuest::op(), Instruction::Cpuid));
  EXPECT_EQ(g.get(Field::PreemptionTimer), 40u);
  g.must_enter();
  g.machine.clock().advance(40 << kPreemptionTimerShift);
  EXPECT_TRUE(boundary_events(g.cpu));
  EXPECT_TRUE(g.exited(ExitReason::PreemptionTimer));
  EXPECT_EQ(g.get(Field::PreemptionTimer), 0u);
}

TEST(VmxPreemptionTimer, ZeroExitsBeforeTheFirstInstruction) {
  TestGuest g;
  g.pin(x86::pin::PreemptionTimer);
  g.must_enter();
  EXPECT_TRUE(g.cpu.attention & kAttentionEvents);
  EXPECT_TRUE(boundary_events(g.cpu));
  EXPECT_EQ(g.get(Field::GuestRip), TestGuest::kGuestRip);
}

} // namespace
} // namespace abyme::soft::vmx
