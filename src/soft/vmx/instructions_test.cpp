#include "soft/vmx/test_guest.hpp"

// VMX instructions and their errors, VMCS regions, fields and capability MSRs.
namespace abyme::soft::vmx {
namespace {

using x86::VmxError;

constexpr u64 kInvalid = pack_status(x86::rflags::CF), kValid = pack_status(x86::rflags::ZF);

void expect_error(TestGuest &g, VmxError error) {
  EXPECT_EQ(g.cpu.status, kValid);
  EXPECT_EQ(g.get(Field::InstructionError), static_cast<u64>(error));
}

TEST(VmxInstructions, UndefinedOutsideOfVmxOperationAndPrivileged) {
  TestGuest g;
  g.cpu.cpl = 3;
  EXPECT_EQ(g.run(vmlaunch, TestGuest::op()), Outcome::Fault);
  system::expect_fault(g.cpu, x86::GP, 0);
  g.cpu.cpl = 0;
  EXPECT_EQ(g.run(vmxoff, TestGuest::op()), Outcome::Next);
  for (const SlowHandler handler : {vmlaunch, vmresume, vmxoff, vmcall, vmfunc, vmread}) {
    EXPECT_EQ(g.run(handler, TestGuest::op()), Outcome::Fault);
    system::expect_fault(g.cpu, x86::UD, -1);
  }
}

TEST(VmxInstructions, VmxonChecksFeatureControlAndRegion) {
  TestGuest g;
  EXPECT_EQ(g.pointer(vmxon, TestGuest::kVmxon), Outcome::Next);
  expect_error(g, VmxError::VmxonInRoot);
  EXPECT_EQ(g.run(vmxoff, TestGuest::op()), Outcome::Next);
  g.cpu.msr.feature_control = 1;
  EXPECT_EQ(g.pointer(vmxon, TestGuest::kVmxon), Outcome::Fault);
  system::expect_fault(g.cpu, x86::GP, 0);
  g.cpu.msr.feature_control = 5;
  for (const u64 bad : {TestGuest::kVmxon + 8, u64{1} << 52, u64{0x30000}, u64{0x8000'0000}}) {
    EXPECT_EQ(g.pointer(vmxon, bad), Outcome::Next);
    EXPECT_EQ(g.cpu.status, kInvalid) << std::hex << bad;
  }
  EXPECT_EQ(g.pointer(vmxon, TestGuest::kVmxon), Outcome::Next);
  EXPECT_EQ(g.cpu.status, 0u);
  EXPECT_EQ(g.cpu.vmx_mode, VmxMode::Root);
  EXPECT_EQ(g.run(vmlaunch, TestGuest::op()), Outcome::Next);
  EXPECT_EQ(g.cpu.status, kInvalid);
}

TEST(VmxInstructions, VmclearAndVmptrldRefuseBadPointers) {
  TestGuest g;
  g.pointer(vmclear, 0x123);
  expect_error(g, VmxError::VmclearInvalidAddress);
  g.pointer(vmclear, TestGuest::kVmxon);
  expect_error(g, VmxError::VmclearVmxonPointer);
  g.pointer(vmptrld, 1ull << 52);
  expect_error(g, VmxError::VmptrldInvalidAddress);
  g.pointer(vmptrld, TestGuest::kVmxon);
  expect_error(g, VmxError::VmptrldVmxonPointer);
  g.pointer(vmptrld, 0x30000);
  expect_error(g, VmxError::VmptrldWrongRevision);
  g.pointer(vmptrld, 0x4000'0000); // no RAM there
  expect_error(g, VmxError::VmptrldWrongRevision);
}

TEST(VmxInstructions, VmcsSurvivesBeingReplacedAndCleared) {
  TestGuest g;
  g.set(Field::GuestRip, 0x1122334455667788);
  g.pointer(vmptrld, TestGuest::kOtherVmcs);
  EXPECT_EQ(g.get(Field::GuestRip), 0u);
  g.pointer(vmptrld, TestGuest::kVmcs);
  EXPECT_EQ(g.get(Field::GuestRip), 0x1122334455667788u);
  g.pointer(vmclear, TestGuest::kVmcs);
  EXPECT_FALSE(g.cpu.vmx->vmcs.valid());
  g.pointer(vmptrld, TestGuest::kVmcs);
  EXPECT_EQ(g.get(Field::GuestRip), 0x1122334455667788u);
}

TEST(VmxInstructions, HostileRegionIsCutToFieldWidths) {
  TestGuest g;
  for (u64 at = 8; at < kPageSize; at += 8) g.machine.store<u64>(TestGuest::kOtherVmcs + at, ~0ull);
  g.pointer(vmptrld, TestGuest::kOtherVmcs);
  for (unsigned i = 0; i < x86::kVmcsFields; i++)
    EXPECT_EQ(g.get(static_cast<Field>(i)), x86::kVmcsFieldTable[i].mask());
  EXPECT_EQ(g.enter(), Outcome::Next);
  expect_error(g, VmxError::EntryInvalidControls);
}

TEST(VmxInstructions, VmptrstStoresTheCurrentPointer) {
  TestGuest g;
  EXPECT_EQ(g.pointer(vmptrst, 0), Outcome::Next);
  EXPECT_EQ(g.machine.load<u64>(system::TestMachine::kScratch), TestGuest::kVmcs);
}

// --- fields ---

Outcome access(TestGuest &g, SlowHandler handler, u64 encoding, u64 value = 0) {
  g.cpu.gpr[x86::RDX] = encoding;
  g.cpu.gpr[x86::RAX] = value;
  return g.run(handler, TestGuest::op());
}

TEST(VmxFields, EveryEncodingThatExistsReadsAndWrites) {
  TestGuest g;
  unsigned found = 0;
  for (u64 encoding = 0; encoding < 0x8000; encoding++) {
    EXPECT_EQ(access(g, vmread, encoding), Outcome::Next);
    if (g.cpu.status != 0) {
      expect_error(g, VmxError::UnsupportedField);
      continue;
    }
    if (!(encoding & 1)) found++;
    EXPECT_EQ(access(g, vmwrite, encoding, 0x0123'4567'89AB'CDEF), Outcome::Next);
    EXPECT_EQ(g.cpu.status, 0u);
  }
  EXPECT_EQ(found, x86::kVmcsFields);
  EXPECT_EQ(g.get(Field::Vpid), 0xCDEFu);
  EXPECT_EQ(g.get(Field::ExceptionBitmap), 0x89AB'CDEFu);
  EXPECT_EQ(g.get(Field::TscOffset), 0x89AB'CDEF'89AB'CDEFu); // low half first, then by the high encoding
  EXPECT_EQ(g.get(Field::GuestRip), 0x0123'4567'89AB'CDEFu);
}

TEST(VmxFields, EncodingsAboveBit14DoNotExist) {
  TestGuest g;
  for (const u64 encoding : {0x8000ull, 0x1'0000ull, 1ull << 32, 0x681Eull | 1ull << 63}) {
    access(g, vmread, encoding);
    expect_error(g, VmxError::UnsupportedField);
  }
}

TEST(VmxFields, ReadOnlyFieldsNeedTheCapability) {
  TestGuest g;
  g.cpu.vmx->capabilities.misc &= ~(1ull << 29);
  access(g, vmwrite, 0x4402, 1);
  expect_error(g, VmxError::VmwriteReadOnly);
}

TEST(VmxFields, FieldsOfAbsentFeaturesDoNotExist) {
  TestGuest g;
  g.machine.profile().vmx_features.reset(static_cast<size_t>(x86::VmxFeature::pml));
  access(g, vmread, 0x200E);
  expect_error(g, VmxError::UnsupportedField);
}

TEST(VmxFields, ShadowedAccessesReachTheShadowVmcs) {
  TestGuest g;
  g.secondary(x86::secondary::VmcsShadowing);
  g.set(Field::VmcsLinkPointer, TestGuest::kShadowVmcs);
  g.machine.store<u8>(TestGuest::kVmwriteBitmap + 0x6820 / 8, 1); // RFLAGS exits
  g.must_enter();
  EXPECT_EQ(access(g, vmwrite, 0x681E, 0x1234'5678'9ABC), Outcome::Next);
  EXPECT_EQ(access(g, vmread, 0x681E), Outcome::Next);
  EXPECT_EQ(g.cpu.gpr[x86::RAX], 0x1234'5678'9ABCu);
  access(g, vmread, 0x7FFE);
  EXPECT_EQ(g.cpu.status, kValid);
  EXPECT_EQ(access(g, vmwrite, 0x6820, 2), Outcome::Branch);
  EXPECT_TRUE(g.exited(x86::ExitReason::Vmwrite));
  EXPECT_EQ(g.get(Field::ExitInstructionInformation), 1u << 10 | x86::RAX << 3 | x86::RDX << 28);
  g.pointer(vmptrld, TestGuest::kShadowVmcs);
  EXPECT_EQ(g.get(Field::GuestRip), 0x1234'5678'9ABCu);
  EXPECT_EQ(g.run(vmlaunch, TestGuest::op()), Outcome::Next);
  EXPECT_EQ(g.cpu.status, kInvalid); // a shadow VMCS cannot be entered
}

// --- invalidation ---

Outcome invalidate(TestGuest &g, SlowHandler handler, u64 type, u64 low, u64 high) {
  g.machine.store<u64>(system::TestMachine::kScratch, low);
  g.machine.store<u64>(system::TestMachine::kScratch + 8, high);
  g.cpu.gpr[x86::RDX] = type;
  return g.run(handler, system::TestMachine::memory_op(8, system::TestMachine::kScratch));
}

TEST(VmxInstructions, InvalidationOperands) {
  TestGuest g;
  const struct {
    SlowHandler handler;
    u64 type, low, high;
    bool valid;
  } cases[] = {
      {invept, 1, TestGuest::kEptPointer, 0, true},
      {invept, 1, TestGuest::kEptPointer | 1, 0, false},
      {invept, 2, 0, 0, true},
      {invept, 0, 0, 0, false},
      {invept, 3, 0, 0, false},
      {invvpid, 0, 1, 0x1000, true},
      {invvpid, 0, 1, 1ull << 62, false},
      {invvpid, 0, 0, 0x1000, false},
      {invvpid, 1, 0x10001, 0, false},
      {invvpid, 1, 1, 1ull << 62, true},
      {invvpid, 2, 0, 0, true},
      {invvpid, 3, 1, 0, true},
      {invvpid, 3, 0, 0, false},
      {invvpid, 4, 1, 0, false},
  };
  for (const auto &c : cases) {
    EXPECT_EQ(invalidate(g, c.handler, c.type, c.low, c.high), Outcome::Next);
    EXPECT_EQ(g.cpu.status, c.valid ? 0 : kValid) << c.type << " " << std::hex << c.low;
  }
  expect_error(g, VmxError::InvalidInvalidationOperand);
}

TEST(VmxInstructions, VmcallInRootFailsAndInGuestExits) {
  TestGuest g;
  g.run(vmcall, TestGuest::op());
  expect_error(g, VmxError::VmcallInRoot);
  g.must_enter();
  g.cpu.cpl = 3;
  EXPECT_EQ(g.run(vmcall, TestGuest::op()), Outcome::Branch);
  EXPECT_TRUE(g.exited(x86::ExitReason::Vmcall));
}

TEST(VmxInstructions, AllExitInNonRootOperation) {
  const struct {
    SlowHandler handler;
    x86::ExitReason reason;
  } cases[] = {{vmclear, x86::ExitReason::Vmclear}, {vmptrld, x86::ExitReason::Vmptrld},
               {vmptrst, x86::ExitReason::Vmptrst}, {vmxon, x86::ExitReason::Vmxon},
               {invept, x86::ExitReason::Invept},   {invvpid, x86::ExitReason::Invvpid}};
  for (const auto &c : cases) {
    TestGuest g;
    g.must_enter();
    EXPECT_EQ(g.run(c.handler, system::TestMachine::memory_op(8, 0x123)), Outcome::Branch);
    EXPECT_TRUE(g.exited(c.reason));
    EXPECT_EQ(g.get(Field::ExitQualification), 0x123u);
  }
}

// --- capability MSRs ---

TEST(VmxCapabilities, FollowTheProfile) {
  TestGuest g;
  u64 all = 0, none = 0;
  EXPECT_TRUE(capability_msr(g.cpu, x86::msr::IA32_VMX_PROCBASED_CTLS2, all));
  EXPECT_EQ(static_cast<u32>(all), 0u);
  EXPECT_TRUE(all >> 32 & x86::secondary::EnableEpt);
  g.machine.profile().vmx_features.reset();
  g.cpu.vmx->capabilities = make_capabilities(g.machine.profile());
  EXPECT_TRUE(capability_msr(g.cpu, x86::msr::IA32_VMX_PROCBASED_CTLS2, none));
  EXPECT_EQ(none, 0u);
  EXPECT_FALSE(capability_msr(g.cpu, x86::msr::IA32_VMX_EPT_VPID_CAP, none));
  EXPECT_FALSE(capability_msr(g.cpu, x86::msr::IA32_VMX_VMFUNC, none));
  EXPECT_TRUE(capability_msr(g.cpu, x86::msr::IA32_VMX_TRUE_PROCBASED_CTLS, none));
  EXPECT_FALSE(none & x86::primary::Cr3LoadExiting);
  EXPECT_TRUE(none >> 32 & x86::primary::Cr3LoadExiting);
  EXPECT_FALSE(none >> 32 & x86::primary::UseMsrBitmaps);
  g.machine.profile().features.reset(static_cast<size_t>(x86::Feature::vmx));
  EXPECT_FALSE(capability_msr(g.cpu, x86::msr::IA32_VMX_BASIC, none));
}

TEST(VmxCapabilities, EnumerationCoversEveryOfferedField) {
  TestGuest g;
  u64 highest = 0;
  EXPECT_TRUE(capability_msr(g.cpu, x86::msr::IA32_VMX_VMCS_ENUM, highest));
  for (const auto &field : x86::kVmcsFieldTable) EXPECT_LE(field.encoding >> 1 & 0x1FF, highest >> 1);
}

TEST(VmxCapabilities, FixedBitsOfControlRegisters) {
  TestGuest g;
  EXPECT_TRUE(cr0_allowed(g.cpu, kCr0Fixed0));
  EXPECT_FALSE(cr0_allowed(g.cpu, x86::cr0::PE | x86::cr0::PG));
  EXPECT_FALSE(cr0_allowed(g.cpu, x86::cr0::NE));
  EXPECT_FALSE(cr4_allowed(g.cpu, x86::cr4::PAE));
  g.must_enter();
  EXPECT_TRUE(cr0_allowed(g.cpu, x86::cr0::NE)); // unrestricted guest
}

} // namespace
} // namespace abyme::soft::vmx
