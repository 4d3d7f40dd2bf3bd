#include "soft/vmx/test_guest.hpp"
#include "soft/vmx/virtual_apic.hpp"

// Events between instructions: windows, interrupts, NMIs, INIT, SIPI, MTF; and the virtual APIC.
namespace abyme::soft::vmx {
namespace {

using x86::ExitReason;
namespace interruption = x86::interruption;
namespace pin = x86::pin;
namespace primary = x86::primary;
namespace secondary = x86::secondary;
namespace reg = apic_register;

void enable_interrupts(TestGuest &g) { g.or_in(Field::GuestRflags, x86::rflags::IF); }
// An interrupt waits in the vCPU's own APIC.
void raise_interrupt(TestGuest &g, u8 vector) {
  g.machine.apic().enter_virtual_wire_mode();
  g.machine.apic().accept(apic::DeliveryMode::Fixed, vector, false);
}

TEST(VmxBoundary, InterruptWindowOpensWithIf) {
  TestGuest g;
  g.primary(primary::InterruptWindow);
  g.must_enter();
  EXPECT_FALSE(boundary_events(g.cpu));
  EXPECT_FALSE(wakes(g.cpu));
  set_rflags(g.cpu, rflags(g.cpu) | x86::rflags::IF);
  g.cpu.shadow = kShadowSti;
  EXPECT_FALSE(boundary_events(g.cpu));
  EXPECT_TRUE(g.cpu.attention & kAttentionEvents);
  g.cpu.shadow = 0;
  EXPECT_TRUE(boundary_events(g.cpu));
  EXPECT_TRUE(g.exited(ExitReason::InterruptWindow));
}

TEST(VmxBoundary, InterruptWindowWakesFromHlt) {
  TestGuest g;
  enable_interrupts(g);
  g.set(Field::GuestActivity, 1);
  g.primary(primary::InterruptWindow);
  g.must_enter();
  EXPECT_EQ(g.cpu.activity, Activity::Halted);
  EXPECT_TRUE(wakes(g.cpu));
  EXPECT_TRUE(boundary_events(g.cpu));
  EXPECT_EQ(g.get(Field::GuestActivity), 1u);
  EXPECT_EQ(g.cpu.activity, Activity::Active);
}

TEST(VmxBoundary, NmiWindowOpensWhenVirtualNmisAreUnblocked) {
  TestGuest g;
  g.pin(pin::NmiExiting | pin::VirtualNmis);
  g.primary(primary::NmiWindow);
  g.set(Field::GuestInterruptibility, x86::interruptibility::kNmi);
  g.must_enter();
  EXPECT_FALSE(boundary_events(g.cpu));
  on_iret(g.cpu);
  EXPECT_TRUE(boundary_events(g.cpu));
  EXPECT_TRUE(g.exited(ExitReason::NmiWindow));
}

TEST(VmxBoundary, NmiExitsAndBlocksTheHosts) {
  TestGuest g;
  g.pin(pin::NmiExiting);
  g.must_enter();
  g.cpu.need(kAttentionNmi);
  EXPECT_TRUE(boundary_events(g.cpu));
  EXPECT_TRUE(g.exited(ExitReason::ExceptionOrNmi));
  EXPECT_EQ(g.get(Field::ExitInterruption), interruption::kValid | 2 << 8 | 2);
  EXPECT_TRUE(g.cpu.nmi_blocked);
  EXPECT_FALSE(g.cpu.nmi_pending);
}

TEST(VmxBoundary, ExternalInterruptExitsWhateverIf) {
  TestGuest g;
  g.pin(pin::ExternalInterruptExiting);
  g.must_enter();
  EXPECT_FALSE(boundary_events(g.cpu));
  raise_interrupt(g, 0x51);
  EXPECT_TRUE(boundary_events(g.cpu));
  EXPECT_TRUE(g.exited(ExitReason::ExternalInterrupt));
  EXPECT_EQ(g.get(Field::ExitInterruption), 0u);
  EXPECT_TRUE(g.machine.apic().pending_vector()); // not acknowledged
  EXPECT_TRUE(g.cpu.attention & kAttentionInterrupt);
}

TEST(VmxBoundary, AcknowledgedInterruptIsReported) {
  TestGuest g;
  g.pin(pin::ExternalInterruptExiting);
  g.or_in(Field::ExitControls, x86::exit_control::AcknowledgeInterrupt);
  g.must_enter();
  raise_interrupt(g, 0x51);
  EXPECT_TRUE(boundary_events(g.cpu));
  EXPECT_EQ(g.get(Field::ExitInterruption), interruption::kValid | 0x51);
  EXPECT_FALSE(g.machine.apic().pending_vector());
}

TEST(VmxBoundary, InitExitsAndSipiOnlyWhereItIsWaitedFor) {
  TestGuest g;
  g.must_enter();
  g.cpu.sipi_vector = 0x9A;
  g.cpu.need(kAttentionSipi);
  EXPECT_FALSE(boundary_events(g.cpu));
  g.cpu.need(kAttentionInit);
  EXPECT_TRUE(boundary_events(g.cpu));
  EXPECT_TRUE(g.exited(ExitReason::Init));
  g.set(Field::GuestActivity, 3);
  g.must_enter();
  g.cpu.need(kAttentionSipi);
  EXPECT_TRUE(boundary_events(g.cpu));
  EXPECT_TRUE(g.exited(ExitReason::Sipi));
  EXPECT_EQ(g.get(Field::ExitQualification), 0x9Au);
}

TEST(VmxBoundary, MonitorTrapFlagExitsAfterOneInstruction) {
  TestGuest g;
  g.primary(primary::MonitorTrapFlag);
  g.must_enter();
  EXPECT_FALSE(boundary_events(g.cpu)); // before the first instruction
  EXPECT_TRUE(g.cpu.attention & kAttentionEvents);
  g.cpu.rip += 3;
  EXPECT_TRUE(boundary_events(g.cpu));
  EXPECT_TRUE(g.exited(ExitReason::MonitorTrapFlag));
  EXPECT_EQ(g.get(Field::GuestRip), TestGuest::kGuestRip + 3);
}

TEST(VmxBoundary, DebugTrapGoesBeforeTheTimer) {
  TestGuest g;
  g.pin(pin::PreemptionTimer);
  g.set(Field::GuestPendingDebug, 1 << 14);
  g.must_enter();
  EXPECT_FALSE(boundary_events(g.cpu));
  g.cpu.pending_debug = 0;
  EXPECT_TRUE(boundary_events(g.cpu));
}

TEST(VmxBoundary, SavesPendingDebugExceptions) {
  TestGuest g;
  g.must_enter();
  g.cpu.pending_debug = 1 | 1 << 14;
  EXPECT_TRUE(intercepts(g.cpu, TestGuest::op(), Instruction::Cpuid));
  EXPECT_EQ(g.get(Field::GuestPendingDebug), 1u | 1 << 12 | 1 << 14);
}

// --- the virtual APIC ---

void put_virtual(TestGuest &g, u32 offset, u32 value) { g.machine.store<u32>(TestGuest::kVirtualApic + offset, value); }
u32 virtual_register(TestGuest &g, u32 offset) { return g.machine.load<u32>(TestGuest::kVirtualApic + offset); }

TEST(VmxVirtualApic, Cr8IsTheShadowAndTheThresholdExits) {
  TestGuest g;
  g.primary(primary::UseTprShadow);
  put_virtual(g, reg::Tpr, 0x50);
  g.set(Field::TprThreshold, 4);
  g.must_enter();
  u64 value = 0;
  EXPECT_TRUE(cr8_read(g.cpu, TestGuest::op(), value));
  EXPECT_EQ(value, 5u);
  bool exited = true;
  g.cpu.next_rip = g.cpu.rip + 4;
  EXPECT_TRUE(cr8_write(g.cpu, TestGuest::op(), 7, exited));
  EXPECT_FALSE(exited);
  EXPECT_EQ(virtual_register(g, reg::Tpr), 0x70u);
  EXPECT_TRUE(cr8_write(g.cpu, TestGuest::op(), 3, exited));
  EXPECT_TRUE(exited);
  EXPECT_TRUE(g.exited(ExitReason::TprBelowThreshold));
  EXPECT_EQ(g.get(Field::GuestRip), TestGuest::kGuestRip + 4);
}

ApicAccess access(u64 offset, bool write) {
  return {.offset = offset, .size = 4, .write = write, .fetch = false, .linear = 0xFEE0'0000 + offset};
}

TEST(VmxVirtualApic, UnvirtualizedAccessesExitWithTheirKind) {
  TestGuest g;
  g.primary(primary::UseTprShadow);
  g.secondary(secondary::VirtualizeApicAccesses);
  g.must_enter();
  EXPECT_TRUE(is_apic_access_page(g.cpu, TestGuest::kApicAccess));
  u64 value = 0;
  bool exited = false;
  EXPECT_TRUE(apic_access(g.cpu, access(reg::Tpr, false), value, exited));
  EXPECT_FALSE(apic_access(g.cpu, access(reg::Eoi, true), value, exited));
  ept_fault(g.cpu);
  EXPECT_TRUE(g.exited(ExitReason::ApicAccess));
  EXPECT_EQ(g.get(Field::ExitQualification), 0xB0u | 1 << 12);
  EXPECT_EQ(g.get(Field::GuestLinearAddress), 0xFEE0'00B0u);
}

TEST(VmxVirtualApic, RegisterWritesExitAfterwards) {
  TestGuest g;
  g.primary(primary::UseTprShadow);
  g.secondary(secondary::VirtualizeApicAccesses | secondary::ApicRegisterVirtualization);
  g.must_enter();
  u64 value = 0x1FF;
  bool exited = false;
  EXPECT_TRUE(apic_access(g.cpu, access(reg::Svr, true), value, exited));
  EXPECT_EQ(virtual_register(g, reg::Svr), 0x1FFu);
  EXPECT_TRUE(boundary_events(g.cpu));
  EXPECT_TRUE(g.exited(ExitReason::ApicWrite));
  EXPECT_EQ(g.get(Field::ExitQualification), 0xF0u);
}

void virtual_interrupts(TestGuest &g) {
  g.primary(primary::UseTprShadow);
  g.pin(pin::ExternalInterruptExiting);
  g.secondary(secondary::VirtualInterruptDelivery | secondary::VirtualizeX2apic |
              secondary::ApicRegisterVirtualization);
  g.machine.set_gate64(0x61, system::make_gate(system::TestMachine::kCode64, 0xB000, 14, 0));
  enable_interrupts(g);
}

TEST(VmxVirtualApic, RequestedInterruptIsDeliveredAndEndedWithoutExits) {
  TestGuest g;
  virtual_interrupts(g);
  g.set(Field::GuestInterruptStatus, 0x61);
  put_virtual(g, reg::Irr + 3 * 16, 1 << 1);
  g.must_enter();
  EXPECT_FALSE(boundary_events(g.cpu));
  EXPECT_EQ(g.cpu.rip, 0xB000u);
  EXPECT_EQ(g.get(Field::GuestInterruptStatus), 0x6100u);
  EXPECT_EQ(virtual_register(g, reg::Isr + 3 * 16), 1u << 1);
  EXPECT_EQ(virtual_register(g, reg::Irr + 3 * 16), 0u);
  EXPECT_EQ(virtual_register(g, reg::Ppr), 0x60u);
  EXPECT_EQ(apic_msr_write(g.cpu, 0x80B, 0), ApicMsrWrite::Done);
  EXPECT_FALSE(boundary_events(g.cpu));
  EXPECT_EQ(g.get(Field::GuestInterruptStatus), 0u);
  EXPECT_EQ(virtual_register(g, reg::Isr + 3 * 16), 0u);
}

TEST(VmxVirtualApic, EoiBitmapExits) {
  TestGuest g;
  virtual_interrupts(g);
  g.set(Field::GuestInterruptStatus, 0x6100);
  put_virtual(g, reg::Isr + 3 * 16, 1 << 1);
  g.set(Field::EoiExitBitmap1, 1ull << (0x61 - 64));
  g.must_enter();
  EXPECT_EQ(apic_msr_write(g.cpu, 0x80B, 0), ApicMsrWrite::Done);
  EXPECT_TRUE(boundary_events(g.cpu));
  EXPECT_TRUE(g.exited(ExitReason::VirtualizedEoi));
  EXPECT_EQ(g.get(Field::ExitQualification), 0x61u);
}

TEST(VmxVirtualApic, SelfIpiOfX2apicMode) {
  TestGuest g;
  virtual_interrupts(g);
  g.must_enter();
  EXPECT_EQ(apic_msr_write(g.cpu, 0x83F, 0x161), ApicMsrWrite::GeneralProtection);
  EXPECT_EQ(apic_msr_write(g.cpu, 0x83F, 0x61), ApicMsrWrite::Done);
  EXPECT_FALSE(boundary_events(g.cpu));
  EXPECT_EQ(g.cpu.rip, 0xB000u);
  EXPECT_EQ(apic_msr_write(g.cpu, 0x830, 0), ApicMsrWrite::NotVirtualized);
}

TEST(VmxVirtualApic, PostedInterruptsArriveWithoutExit) {
  TestGuest g;
  virtual_interrupts(g);
  g.pin(pin::PostedInterrupts);
  g.or_in(Field::ExitControls, x86::exit_control::AcknowledgeInterrupt);
  g.set(Field::PostedInterruptVector, 0xF2);
  g.must_enter();
  g.machine.store<u32>(TestGuest::kPosted + 3 * 4, 1 << 1);
  g.machine.store<u64>(TestGuest::kPosted + 32, 1);
  raise_interrupt(g, 0xF2);
  EXPECT_FALSE(boundary_events(g.cpu));
  EXPECT_EQ(g.cpu.rip, 0xB000u);
  EXPECT_EQ(g.machine.load<u64>(TestGuest::kPosted + 32), 0u);
  EXPECT_FALSE(g.machine.apic().pending_vector());
}

} // namespace
} // namespace abyme::soft::vmx
