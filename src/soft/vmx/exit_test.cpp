#include "soft/mmu/access.hpp"
#include "soft/vmx/test_guest.hpp"

// What causes VM exits, and the information that they leave.
namespace abyme::soft::vmx {
namespace {

using x86::ExitReason;
namespace interruption = x86::interruption;
namespace primary = x86::primary;
namespace secondary = x86::secondary;

Op memory_op(u8 base_register, i32 disp) {
  Op op = system::TestMachine::memory_op(8, 0);
  op.base = static_cast<u8>(base_register * 8);
  op.disp = disp;
  op.reg = x86::RBX * 8;
  return op;
}

// --- instructions ---

struct InstructionCase {
  Instruction what;
  u32 primary, secondary;
  ExitReason reason;
};

TEST(VmxExits, InstructionsExitExactlyUnderTheirControl) {
  using enum Instruction;
  const InstructionCase cases[] = {
      {Hlt, primary::HltExiting, 0, ExitReason::Hlt},
      {Invlpg, primary::InvlpgExiting, 0, ExitReason::Invlpg},
      {Rdpmc, primary::RdpmcExiting, 0, ExitReason::Rdpmc},
      {Rdtsc, primary::RdtscExiting, 0, ExitReason::Rdtsc},
      {Rdtscp, primary::RdtscExiting, secondary::EnableRdtscp, ExitReason::Rdtscp},
      {Pause, primary::PauseExiting, 0, ExitReason::Pause},
      {Mwait, primary::MwaitExiting, 0, ExitReason::Mwait},
      {Monitor, primary::MonitorExiting, 0, ExitReason::Monitor},
      {Wbinvd, 0, secondary::WbinvdExiting, ExitReason::Wbinvd},
      {Rdrand, 0, secondary::RdrandExiting, ExitReason::Rdrand},
      {Rdseed, 0, secondary::RdseedExiting, ExitReason::Rdseed},
      {Invpcid, primary::InvlpgExiting, secondary::EnableInvpcid, ExitReason::Invpcid},
      {Sgdt, 0, secondary::DescriptorTableExiting, ExitReason::GdtrOrIdtr},
      {Ltr, 0, secondary::DescriptorTableExiting, ExitReason::LdtrOrTr},
  };
  for (const auto &c : cases) {
    SCOPED_TRACE(x86::name_of(c.reason));
    TestGuest g;
    g.must_enter();
    EXPECT_FALSE(intercepts(g.cpu, TestGuest::op(), c.what));
    EXPECT_TRUE(intercepts(g.cpu, TestGuest::op(), Instruction::Cpuid));
    g.primary(c.primary);
    g.secondary(c.secondary);
    g.or_in(Field::GuestRflags, x86::rflags::RF);
    g.must_enter();
    EXPECT_TRUE(intercepts(g.cpu, TestGuest::op(), c.what, 0x1234));
    EXPECT_TRUE(g.exited(c.reason));
    EXPECT_EQ(g.get(Field::ExitInstructionLength), 2u);
    EXPECT_EQ(g.get(Field::ExitQualification), c.what == Invlpg ? 0x1234u : 0u);
    EXPECT_FALSE(g.get(Field::GuestRflags) & x86::rflags::RF);
  }
}

TEST(VmxExits, InstructionInformationDescribesTheMemoryOperand) {
  TestGuest g;
  g.secondary(secondary::DescriptorTableExiting);
  g.must_enter();
  Op op = memory_op(x86::RSI, -0x20);
  op.index = x86::R9 * 8;
  op.scale = 2;
  EXPECT_TRUE(intercepts(g.cpu, op, Instruction::Lidt));
  EXPECT_EQ(g.get(Field::ExitQualification), static_cast<u64>(-0x20));
  const u32 expected = 2 | 2 << 7 | 1 << 11 | x86::DS << 15 | 9 << 18 | x86::RSI << 23 | 3 << 28;
  EXPECT_EQ(g.get(Field::ExitInstructionInformation), expected);
}

TEST(VmxExits, RandomInformationNamesRegisterAndSize) {
  TestGuest g;
  g.secondary(secondary::RdrandExiting);
  g.must_enter();
  Op op = TestGuest::op();
  op.rm = x86::R11 * 8;
  EXPECT_TRUE(intercepts(g.cpu, op, Instruction::Rdrand));
  EXPECT_EQ(g.get(Field::ExitInstructionInformation), 11u << 3 | 2 << 11);
}

TEST(VmxExits, PauseLoopExitsAfterItsWindow) {
  TestGuest g;
  g.secondary(secondary::PauseLoopExiting);
  g.set(Field::PleGap, 50);
  g.set(Field::PleWindow, 200);
  g.machine.clock().advance(1000);
  g.must_enter();
  EXPECT_FALSE(intercepts(g.cpu, TestGuest::op(), Instruction::Pause));
  g.machine.clock().advance(100); // a new loop
  for (int n = 0; n < 5; n++, g.machine.clock().advance(40))
    EXPECT_FALSE(intercepts(g.cpu, TestGuest::op(), Instruction::Pause));
  g.machine.clock().advance(5);
  EXPECT_TRUE(intercepts(g.cpu, TestGuest::op(), Instruction::Pause));
  EXPECT_TRUE(g.exited(ExitReason::Pause));
}

// --- control registers ---

TEST(VmxExits, Cr0WritesExitOnMaskedBitsThatDifferFromTheShadow) {
  TestGuest g;
  g.set(Field::Cr0Mask, x86::cr0::TS | x86::cr0::NE);
  g.set(Field::Cr0ReadShadow, x86::cr0::TS);
  g.must_enter();
  u64 value = (g.cpu.cr0 | x86::cr0::TS | x86::cr0::WP) & ~x86::cr0::NE;
  EXPECT_FALSE(intercepts_cr_write(g.cpu, TestGuest::op(), 0, x86::RCX, value));
  EXPECT_TRUE(value & x86::cr0::WP);
  EXPECT_TRUE(value & x86::cr0::NE); // masked bits stay as they are
  EXPECT_FALSE(value & x86::cr0::TS);
  EXPECT_TRUE(visible_cr0(g.cpu) & x86::cr0::TS);
  EXPECT_FALSE(visible_cr0(g.cpu) & x86::cr0::NE);
  value = 0;
  EXPECT_TRUE(intercepts_cr_write(g.cpu, TestGuest::op(), 0, x86::RCX, value));
  EXPECT_TRUE(g.exited(ExitReason::CrAccess));
  EXPECT_EQ(g.get(Field::ExitQualification), static_cast<u64>(x86::RCX) << 8);
}

TEST(VmxExits, Cr3TargetsDoNotExit) {
  TestGuest g;
  g.primary(primary::Cr3LoadExiting | primary::Cr3StoreExiting);
  g.set(Field::Cr3TargetCount, 2);
  g.set(Field::Cr3Target1, 0x7000);
  g.must_enter();
  u64 value = 0x7000;
  EXPECT_FALSE(intercepts_cr_write(g.cpu, TestGuest::op(), 3, 0, value));
  value = 0x8000;
  EXPECT_TRUE(intercepts_cr_write(g.cpu, TestGuest::op(), 3, x86::RDI, value));
  EXPECT_EQ(g.get(Field::ExitQualification), 3u | static_cast<u64>(x86::RDI) << 8);
  g.must_enter();
  EXPECT_TRUE(intercepts_cr_read(g.cpu, TestGuest::op(), 3, x86::RDI));
  EXPECT_EQ(g.get(Field::ExitQualification), 3u | 1 << 4 | static_cast<u64>(x86::RDI) << 8);
}

TEST(VmxExits, Clts) {
  TestGuest g;
  bool clear = false;
  g.must_enter();
  EXPECT_FALSE(intercepts_clts(g.cpu, TestGuest::op(), clear));
  EXPECT_TRUE(clear);
  EXPECT_TRUE(intercepts(g.cpu, TestGuest::op(), Instruction::Cpuid));
  g.set(Field::Cr0Mask, x86::cr0::TS);
  g.must_enter();
  EXPECT_FALSE(intercepts_clts(g.cpu, TestGuest::op(), clear));
  EXPECT_FALSE(clear);
  EXPECT_TRUE(intercepts(g.cpu, TestGuest::op(), Instruction::Cpuid));
  g.set(Field::Cr0ReadShadow, x86::cr0::TS);
  g.must_enter();
  EXPECT_TRUE(intercepts_clts(g.cpu, TestGuest::op(), clear));
  EXPECT_EQ(g.get(Field::ExitQualification), 2u << 4);
}

TEST(VmxExits, LmswReportsSourceAndOperand) {
  TestGuest g;
  g.set(Field::Cr0Mask, x86::cr0::TS);
  g.must_enter();
  u16 source = 8;
  EXPECT_TRUE(intercepts_lmsw(g.cpu, memory_op(0, 0), source, 0x5678));
  EXPECT_EQ(g.get(Field::ExitQualification), 8u << 16 | 1 << 6 | 3 << 4);
  EXPECT_EQ(g.get(Field::GuestLinearAddress), 0x5678u);
}

TEST(VmxExits, MovDr) {
  TestGuest g;
  g.primary(primary::MovDrExiting);
  g.must_enter();
  EXPECT_TRUE(intercepts_dr(g.cpu, TestGuest::op(), 6, x86::RBP, false));
  EXPECT_EQ(g.get(Field::ExitQualification), 6u | 1 << 4 | static_cast<u64>(x86::RBP) << 8);
}

// --- I/O and MSRs ---

IoAccess io(u16 port, u8 size, bool in = false) {
  return {.port = port, .size = size, .in = in, .string = false, .rep = false, .immediate = in, .linear = 0};
}

TEST(VmxExits, IoBitmapsDecidePerPort) {
  TestGuest g;
  g.primary(primary::UseIoBitmaps);
  g.machine.store<u8>(TestGuest::kIoBitmapA + 0x71 / 8, 1 << (0x71 % 8));
  g.machine.store<u8>(TestGuest::kIoBitmapB, 1);
  g.must_enter();
  EXPECT_FALSE(intercepts_io(g.cpu, TestGuest::op(), io(0x70, 1)));
  EXPECT_TRUE(intercepts_io(g.cpu, TestGuest::op(), io(0x70, 2, true)));
  EXPECT_EQ(g.get(Field::ExitQualification), 0x70u << 16 | 1 << 6 | 1 << 3 | 1);
  g.must_enter();
  EXPECT_TRUE(intercepts_io(g.cpu, TestGuest::op(), io(0x7FFF, 2)));
  g.machine.store<u8>(TestGuest::kIoBitmapB, 0);
  g.must_enter();
  EXPECT_TRUE(intercepts_io(g.cpu, TestGuest::op(), io(0xFFFF, 2))); // wraps around
}

TEST(VmxExits, StringIoReportsLinearAddress) {
  TestGuest g;
  g.primary(primary::UnconditionalIoExiting);
  g.must_enter();
  const IoAccess access{
      .port = 0x3F8, .size = 1, .in = false, .string = true, .rep = true, .immediate = false, .linear = 0x9000};
  EXPECT_TRUE(intercepts_io(g.cpu, TestGuest::op(), access));
  EXPECT_EQ(g.get(Field::ExitQualification), 0x3F8u << 16 | 1 << 5 | 1 << 4);
  EXPECT_EQ(g.get(Field::GuestLinearAddress), 0x9000u);
  EXPECT_EQ(g.get(Field::ExitInstructionInformation), 2u << 7 | x86::DS << 15);
}

TEST(VmxExits, MsrBitmapHasFourParts) {
  TestGuest g;
  g.primary(primary::UseMsrBitmaps);
  g.machine.store<u8>(TestGuest::kMsrBitmap + 0x10 / 8, 1);              // read of 10H
  g.machine.store<u8>(TestGuest::kMsrBitmap + 1024 + 0x80 / 8, 1);       // read of C0000080H
  g.machine.store<u8>(TestGuest::kMsrBitmap + 2048 + 0x174 / 8, 1 << 4); // write of 174H
  g.machine.store<u8>(TestGuest::kMsrBitmap + 3072 + 0x82 / 8, 1 << 2);  // write of C0000082H
  const struct {
    u32 msr;
    bool read, write;
  } cases[] = {{0x10, true, false},    {0x174, false, true}, {0xC000'0080, true, false}, {0xC000'0082, false, true},
               {0x1FFF, false, false}, {0x2000, true, true}, {0xC000'2000, true, true},  {0x8000'0000, true, true}};
  for (const auto &c : cases) {
    g.must_enter();
    EXPECT_EQ(intercepts_rdmsr(g.cpu, TestGuest::op(), c.msr), c.read) << std::hex << c.msr;
    if (g.cpu.vmx_mode == VmxMode::Root) g.must_enter();
    EXPECT_EQ(intercepts_wrmsr(g.cpu, TestGuest::op(), c.msr), c.write) << std::hex << c.msr;
    if (g.cpu.vmx_mode == VmxMode::NonRoot) (void)intercepts(g.cpu, TestGuest::op(), Instruction::Cpuid);
  }
}

TEST(VmxExits, TscIsScaledThenOffset) {
  TestGuest g;
  g.primary(primary::UseTscOffsetting);
  g.secondary(secondary::UseTscScaling);
  g.set(Field::TscMultiplier, 3ull << 47); // 1.5
  g.set(Field::TscOffset, static_cast<u64>(-100));
  g.must_enter();
  EXPECT_EQ(guest_tsc(g.cpu, 1000), 1400u);
}

// --- exceptions ---

TEST(VmxExits, PageFaultsAreMatchedByErrorCode) {
  TestGuest g;
  g.set(Field::ExceptionBitmap, 1 << x86::PF);
  g.set(Field::PageFaultErrorMask, 1);
  g.set(Field::PageFaultErrorMatch, 1);
  g.must_enter();
  Event event{.vector = x86::PF, .has_error = true, .error = 6, .address = 0xABC};
  EXPECT_FALSE(intercepts_event(g.cpu, event));
  event.error = 7;
  EXPECT_TRUE(intercepts_event(g.cpu, event));
  EXPECT_EQ(g.get(Field::ExitInterruption), interruption::kValid | interruption::kErrorValid | 3 << 8 | 14);
  EXPECT_EQ(g.get(Field::ExitErrorCode), 7u);
  EXPECT_EQ(g.get(Field::ExitQualification), 0xABCu);
  EXPECT_TRUE(g.get(Field::GuestRflags) & x86::rflags::RF);
  g.set(Field::ExceptionBitmap, 0); // now the ones that do not match exit
  g.must_enter();
  EXPECT_FALSE(intercepts_event(g.cpu, event));
  event.error = 6;
  EXPECT_TRUE(intercepts_event(g.cpu, event));
}

TEST(VmxExits, SoftwareExceptionHasItsInstructionLength) {
  TestGuest g;
  g.set(Field::ExceptionBitmap, 1 << x86::BP);
  g.must_enter();
  EXPECT_TRUE(intercepts_event(g.cpu, {.type = EventType::SoftwareException, .vector = x86::BP, .length = 1}));
  EXPECT_EQ(g.get(Field::ExitInterruption), interruption::kValid | 6 << 8 | 3);
  EXPECT_EQ(g.get(Field::ExitInstructionLength), 1u);
  EXPECT_EQ(g.get(Field::GuestRip), TestGuest::kGuestRip);
}

TEST(VmxExits, ExceptionDuringDeliveryReportsWhatWasDelivered) {
  TestGuest g;
  g.set(Field::ExceptionBitmap, 1 << x86::PF);
  g.must_enter();
  g.cpu.delivering = true;
  g.cpu.vectoring = {.type = EventType::HardwareException, .vector = x86::GP, .has_error = true, .error = 0x18};
  EXPECT_TRUE(intercepts_event(g.cpu, {.vector = x86::PF, .has_error = true}));
  EXPECT_EQ(g.get(Field::IdtVectoring), interruption::kValid | interruption::kErrorValid | 3 << 8 | 13);
  EXPECT_EQ(g.get(Field::IdtVectoringErrorCode), 0x18u);
  EXPECT_FALSE(g.cpu.delivering);
}

TEST(VmxExits, FaultOfAnUnblockingIretSaysSo) {
  TestGuest g;
  g.set(Field::ExceptionBitmap, 1 << x86::GP);
  g.pin(x86::pin::NmiExiting | x86::pin::VirtualNmis);
  g.set(Field::GuestInterruptibility, x86::interruptibility::kNmi);
  g.must_enter();
  on_iret(g.cpu);
  EXPECT_FALSE(g.cpu.nmi_blocked);
  EXPECT_TRUE(intercepts_event(g.cpu, {.vector = x86::GP, .has_error = true}));
  EXPECT_TRUE(g.get(Field::ExitInterruption) & interruption::kNmiUnblocking);
}

TEST(VmxExits, TripleFault) {
  TestGuest g;
  g.must_enter();
  EXPECT_TRUE(intercepts_triple_fault(g.cpu));
  EXPECT_TRUE(g.exited(ExitReason::TripleFault));
}

TEST(VmxExits, TaskSwitch) {
  TestGuest g;
  g.must_enter();
  const Op op = TestGuest::op();
  EXPECT_TRUE(intercepts_task_switch(g.cpu, 0x48, 2, &op));
  EXPECT_EQ(g.get(Field::ExitQualification), 0x48u | 2ull << 30);
  EXPECT_EQ(g.get(Field::ExitInstructionLength), 2u);
}

// --- guest-physical memory ---

TEST(VmxExits, EptViolationReportsBothAddresses) {
  TestGuest g;
  g.machine.store<u64>(TestGuest::kEpt + 0x2008, 2ull << 20 | 1 << 7 | 6 << 3 | 5); // 2 to 4 MiB: not writable
  g.must_enter();
  u64 value = 1;
  EXPECT_TRUE(read_linear(g.cpu, 0x201000, value));
  EXPECT_FALSE(write_linear(g.cpu, 0x201008, value));
  ASSERT_EQ(g.cpu.fault.kind, Fault::Kind::EptViolation);
  ept_fault(g.cpu);
  EXPECT_TRUE(g.exited(ExitReason::EptViolation));
  EXPECT_EQ(g.get(Field::GuestPhysicalAddress), 0x201008u);
  EXPECT_EQ(g.get(Field::GuestLinearAddress), 0x201008u);
  EXPECT_EQ(g.get(Field::ExitQualification) & 0x1BF, 0x182u | 5 << 3);
}

TEST(VmxExits, EptMisconfiguration) {
  TestGuest g;
  g.machine.store<u64>(TestGuest::kEpt + 0x2008, 2ull << 20 | 1 << 7 | 6 << 3 | 2); // write without read
  g.must_enter();
  u64 value;
  EXPECT_FALSE(read_linear(g.cpu, 0x201000, value));
  ept_fault(g.cpu);
  EXPECT_TRUE(g.exited(ExitReason::EptMisconfiguration));
  EXPECT_EQ(g.get(Field::GuestPhysicalAddress), 0x201000u);
}

TEST(VmxExits, EptViolationBecomesVe) {
  TestGuest g;
  g.secondary(secondary::EptViolationVe);
  g.machine.set_gate64(x86::VE, system::make_gate(system::TestMachine::kCode64, 0xB000, 14, 0));
  g.must_enter();
  g.cpu.fault = {
      .kind = Fault::Kind::EptViolation, .qualification = 0x181, .guest_physical = 0x5000, .guest_linear = 0x6000};
  ept_fault(g.cpu);
  EXPECT_EQ(g.cpu.vmx_mode, VmxMode::NonRoot);
  EXPECT_EQ(g.cpu.rip, 0xB000u);
  EXPECT_EQ(g.machine.load<u32>(TestGuest::kVe), 48u);
  EXPECT_EQ(g.machine.load<u32>(TestGuest::kVe + 4), ~0u);
  EXPECT_EQ(g.machine.load<u64>(TestGuest::kVe + 24), 0x5000u);
  g.cpu.fault = {.kind = Fault::Kind::EptViolation, .qualification = 0x181}; // the area is in use: an exit
  ept_fault(g.cpu);
  EXPECT_TRUE(g.exited(ExitReason::EptViolation));
}

TEST(VmxExits, PageModificationLogFillsDownwards) {
  TestGuest g;
  g.secondary(secondary::EnablePml);
  g.set(Field::PmlIndex, 1);
  g.must_enter();
  EXPECT_TRUE(log_dirty(g.cpu, 0x5123));
  EXPECT_TRUE(log_dirty(g.cpu, 0x6000));
  EXPECT_EQ(g.machine.load<u64>(TestGuest::kPml + 8), 0x5000u);
  EXPECT_EQ(g.machine.load<u64>(TestGuest::kPml), 0x6000u);
  EXPECT_FALSE(log_dirty(g.cpu, 0x7000));
  ept_fault(g.cpu);
  EXPECT_TRUE(g.exited(ExitReason::PmlFull));
  EXPECT_EQ(g.get(Field::PmlIndex), 0xFFFFu);
}

TEST(VmxExits, VmfuncSwitchesEptp) {
  TestGuest g;
  g.secondary(secondary::EnableVmfunc);
  g.set(Field::VmFunctionControls, 1);
  g.machine.store<u64>(TestGuest::kEptpList + 8, TestGuest::kEptPointer | 1 << 6);
  g.must_enter();
  g.cpu.gpr[x86::RAX] = 0;
  g.cpu.gpr[x86::RCX] = 1;
  EXPECT_EQ(g.run(vmfunc, TestGuest::op()), Outcome::Branch);
  EXPECT_EQ(g.cpu.eptp, TestGuest::kEptPointer | 1 << 6);
  g.cpu.gpr[x86::RCX] = 2; // an invalid pointer
  EXPECT_EQ(g.run(vmfunc, TestGuest::op()), Outcome::Branch);
  EXPECT_TRUE(g.exited(ExitReason::Vmfunc));
}

} // namespace
} // namespace abyme::soft::vmx
