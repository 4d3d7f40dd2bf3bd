#pragma once
#include "soft/system/test_machine.hpp"
#include "soft/vmx/entry_rules.hpp"
#include "x86/msr.hpp"

// For tests: a vCPU in VMX root operation and 64-bit mode, with a current VMCS whose 64-bit guest (EPT, VPID,
// unrestricted) can be entered.
namespace abyme::soft::vmx {

class TestGuest {
public:
  // Where things lie in the 4 MiB of RAM, beyond what TestMachine has there.
  static constexpr u64 kVmxon = 0x40000, kVmcs = 0x41000, kOtherVmcs = 0x42000, kShadowVmcs = 0x43000;
  static constexpr u64 kIoBitmapA = 0x44000, kIoBitmapB = 0x45000, kMsrBitmap = 0x46000, kVmreadBitmap = 0x47000,
                       kVmwriteBitmap = 0x48000;
  static constexpr u64 kVirtualApic = 0x49000, kApicAccess = 0x4A000, kPml = 0x4B000, kEptpList = 0x4C000,
                       kVe = 0x4D000;
  static constexpr u64 kMsrArea = 0x4E000, kPosted = 0x4F000, kEpt = 0x50000, kPdptes = 0x53000;
  static constexpr u64 kHostRip = 0xC100, kHostRsp = 0x8800, kGuestRip = 0xC200, kGuestRsp = 0x9800;
  static constexpr u64 kEptPointer = kEpt | 3 << 3 | 6;

  TestGuest() {
    machine.profile().vmx_features.set();
    cpu.vmx->capabilities = make_capabilities(machine.profile());
    machine.long_mode();
    cpu.cr0 |= x86::cr0::NE;
    cpu.cr4 |= x86::cr4::VMXE;
    cpu.msr.feature_control = x86::msr::feature_control::LOCK | x86::msr::feature_control::VMX_OUTSIDE_SMX;
    mode_changed(cpu);
    for (const u64 at : {kVmxon, kVmcs, kOtherVmcs}) machine.store<u32>(at, kRevision);
    machine.store<u32>(kShadowVmcs, kRevision | x86::kShadowVmcs);
    build_ept();
    pointer(vmxon, kVmxon);
    pointer(vmptrld, kVmcs);
    write_baseline();
  }

  // --- instructions ---
  // An instruction whose memory operand holds `value`.
  Outcome pointer(SlowHandler handler, u64 value) {
    machine.store<u64>(system::TestMachine::kScratch, value);
    return run(handler, system::TestMachine::memory_op(8, system::TestMachine::kScratch));
  }
  Outcome run(SlowHandler handler, const Op &op) { return machine.run(handler, op); }
  static Op op() { return system::TestMachine::op(8); }
  // VMWRITE and VMREAD with register operands.
  void set(Field f, u64 value) {
    const u64 rax = cpu.gpr[x86::RAX], rdx = cpu.gpr[x86::RDX];
    cpu.gpr[x86::RDX] = x86::describe(f).encoding;
    cpu.gpr[x86::RAX] = value;
    EXPECT_EQ(run(vmwrite, op()), Outcome::Next);
    EXPECT_EQ(cpu.status, 0u) << x86::describe(f).name;
    cpu.gpr[x86::RAX] = rax;
    cpu.gpr[x86::RDX] = rdx;
  }
  [[nodiscard]] u64 get(Field f) const { return cpu.vmx->vmcs[f]; }
  void or_in(Field f, u64 bits) { set(f, get(f) | bits); }
  void clear(Field f, u64 bits) { set(f, get(f) & ~bits); }
  void secondary(u32 bits) { or_in(Field::SecondaryControls, bits); }
  void primary(u32 bits) { or_in(Field::PrimaryControls, bits); }
  void pin(u32 bits) { or_in(Field::PinControls, bits); }

  Outcome enter() { return run(cpu.vmx->vmcs.launched ? vmresume : vmlaunch, op()); }
  // Enters and expects to be in the guest.
  void must_enter() {
    EXPECT_EQ(enter(), Outcome::Branch);
    EXPECT_EQ(cpu.vmx_mode, VmxMode::NonRoot)
        << "exit reason " << std::hex << get(Field::ExitReason) << ", violated " << violated();
  }
  [[nodiscard]] std::string_view violated() {
    const EntryState state = entry_state(cpu);
    if (const Rule *rule = control_violation(state)) return rule->name;
    if (const Rule *rule = host_violation(state)) return rule->name;
    const Rule *rule = guest_violation(state);
    return rule ? rule->name : "";
  }
  [[nodiscard]] bool exited(x86::ExitReason reason) const {
    return cpu.vmx_mode == VmxMode::Root && get(Field::ExitReason) == static_cast<u64>(reason);
  }

  void segment(x86::Seg which, u64 selector, u64 base, u32 limit, u32 rights) {
    set_segment(which, selector, base, limit, rights);
  }
  void set_segment(unsigned n, u64 selector, u64 base, u32 limit, u32 rights) {
    set(nth(Field::GuestEsSelector, n), selector);
    set(nth(Field::GuestEsBase, n), base);
    set(nth(Field::GuestEsLimit, n), limit);
    set(nth(Field::GuestEsRights, n), rights);
  }

  // --- other kinds of guest ---
  void protected_guest() {
    clear(Field::EntryControls, x86::entry_control::Ia32eModeGuest);
    set(Field::GuestEfer, 0);
    clear(Field::GuestCr0, x86::cr0::PG);
    set_segment(x86::CS, 0x08, 0, ~0u, 0xC09B);
  }
  void real_guest() {
    protected_guest();
    clear(Field::GuestCr0, x86::cr0::PE);
    for (unsigned n = 0; n < x86::kSegments; n++) set_segment(n, 0, 0, 0xFFFF, n == x86::CS ? 0x9B : 0x93);
  }
  void v86_guest() {
    protected_guest();
    set(Field::GuestRflags, x86::rflags::kFixed | x86::rflags::VM);
    for (unsigned n = 0; n < x86::kSegments; n++) set_segment(n, 0x100, 0x1000, 0xFFFF, 0xF3);
  }
  // Without EPT and unrestricted guest: 64-bit paging from the host's tables.
  void shadow_paging_guest() {
    clear(Field::SecondaryControls, x86::secondary::EnableEpt | x86::secondary::UnrestrictedGuest);
  }
  void pae_guest() {
    protected_guest();
    or_in(Field::GuestCr0, x86::cr0::PG);
    or_in(Field::GuestCr4, x86::cr4::PAE);
    set(Field::GuestCr3, kPdptes);
  }

  system::TestMachine machine;
  Cpu &cpu = machine.cpu;

private:
  // 4 MiB, identity-mapped with 2 MiB pages, read, write and execute, write-back.
  void build_ept() {
    constexpr u64 kAll = 7, kLargeWriteBack = 1 << 7 | 6 << 3;
    machine.store<u64>(kEpt, (kEpt + 0x1000) | kAll);
    machine.store<u64>(kEpt + 0x1000, (kEpt + 0x2000) | kAll);
    for (u64 n = 0; n < 2; n++) machine.store<u64>(kEpt + 0x2000 + n * 8, n << 21 | kAll | kLargeWriteBack);
  }
  void write_baseline() {
    write_controls();
    write_host();
    write_guest();
  }
  void write_controls() {
    const Capabilities &c = cpu.vmx->capabilities;
    using enum x86::ControlWord;
    set(Field::PinControls, c[Pin].zeros);
    set(Field::PrimaryControls, c[Primary].zeros | x86::primary::ActivateSecondary);
    set(Field::SecondaryControls,
        x86::secondary::EnableEpt | x86::secondary::EnableVpid | x86::secondary::UnrestrictedGuest);
    set(Field::ExitControls, c[Exit].zeros | x86::exit_control::HostAddressSpaceSize | x86::exit_control::SaveEfer |
                                 x86::exit_control::LoadEfer | x86::exit_control::SavePat | x86::exit_control::LoadPat |
                                 x86::exit_control::SaveDebugControls);
    set(Field::EntryControls, c[Entry].zeros | x86::entry_control::Ia32eModeGuest | x86::entry_control::LoadEfer |
                                  x86::entry_control::LoadPat | x86::entry_control::LoadDebugControls);
    set(Field::Vpid, 1);
    set(Field::EptPointer, kEptPointer);
    set(Field::VmcsLinkPointer, x86::kNoVmcs);
    set(Field::IoBitmapA, kIoBitmapA);
    set(Field::IoBitmapB, kIoBitmapB);
    set(Field::MsrBitmap, kMsrBitmap);
    set(Field::VmreadBitmap, kVmreadBitmap);
    set(Field::VmwriteBitmap, kVmwriteBitmap);
    set(Field::VirtualApicAddress, kVirtualApic);
    set(Field::ApicAccessAddress, kApicAccess);
    set(Field::PmlAddress, kPml);
    set(Field::PmlIndex, 511);
    set(Field::EptpListAddress, kEptpList);
    set(Field::VirtualizationExceptionAddress, kVe);
    set(Field::PostedInterruptDescriptor, kPosted);
    set(Field::ExitMsrStoreAddress, kMsrArea);
    set(Field::ExitMsrLoadAddress, kMsrArea + 0x400);
    set(Field::EntryMsrLoadAddress, kMsrArea + 0x800);
    set(Field::TscMultiplier, 1ull << 48);
  }
  void write_host() {
    using system::TestMachine;
    set(Field::HostCr0, cpu.cr0);
    set(Field::HostCr3, cpu.cr3);
    set(Field::HostCr4, cpu.cr4);
    set(Field::HostEfer, cpu.efer);
    set(Field::HostPat, x86::msr::kPatAtReset);
    set(Field::HostCsSelector, TestMachine::kCode64);
    for (const Field f : {Field::HostSsSelector, Field::HostDsSelector, Field::HostEsSelector})
      set(f, TestMachine::kData0);
    set(Field::HostTrSelector, TestMachine::kTss);
    set(Field::HostTrBase, TestMachine::kTssBase);
    set(Field::HostGdtrBase, TestMachine::kGdt);
    set(Field::HostIdtrBase, TestMachine::kIdt);
    set(Field::HostRip, kHostRip);
    set(Field::HostRsp, kHostRsp);
  }
  void write_guest() {
    using system::TestMachine;
    set(Field::GuestCr0, cpu.cr0);
    set(Field::GuestCr3, cpu.cr3);
    set(Field::GuestCr4, cpu.cr4);
    set(Field::GuestEfer, cpu.efer);
    set(Field::GuestPat, x86::msr::kPatAtReset);
    set(Field::GuestDr7, 0x400);
    for (unsigned n = 0; n < x86::kSegments; n++) set_segment(n, TestMachine::kData0, 0, ~0u, 0xC093);
    set_segment(x86::CS, TestMachine::kCode64, 0, ~0u, 0xA09B);
    set_segment(kLdtr, 0, 0, 0, x86::Segment::kUnusable);
    set_segment(kTr, TestMachine::kTss, TestMachine::kTssBase, 0x67, 0x8B);
    set(Field::GuestGdtrBase, TestMachine::kGdt);
    set(Field::GuestGdtrLimit, TestMachine::kGdtLimit);
    set(Field::GuestIdtrBase, TestMachine::kIdt);
    set(Field::GuestIdtrLimit, 0xFFF);
    set(Field::GuestRip, kGuestRip);
    set(Field::GuestRsp, kGuestRsp);
    set(Field::GuestRflags, x86::rflags::kFixed);
  }
};

} // namespace abyme::soft::vmx
