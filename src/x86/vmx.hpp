#pragma once
#include "x86/cpu_profile.hpp"
#include <string_view>

// Numbers of VT-x: controls, exit reasons, errors (SDM 3C chapters 25 to 28, 3D appendices A and C).
namespace abyme::x86 {

namespace pin {
constexpr u32 ExternalInterruptExiting = 1 << 0, NmiExiting = 1 << 3, VirtualNmis = 1 << 5, PreemptionTimer = 1 << 6,
              PostedInterrupts = 1 << 7;
}
namespace primary {
constexpr u32 InterruptWindow = 1 << 2, UseTscOffsetting = 1 << 3, HltExiting = 1 << 7, InvlpgExiting = 1 << 9,
              MwaitExiting = 1 << 10, RdpmcExiting = 1 << 11, RdtscExiting = 1 << 12, Cr3LoadExiting = 1 << 15,
              Cr3StoreExiting = 1 << 16, Cr8LoadExiting = 1 << 19, Cr8StoreExiting = 1 << 20, UseTprShadow = 1 << 21,
              NmiWindow = 1 << 22, MovDrExiting = 1 << 23, UnconditionalIoExiting = 1 << 24, UseIoBitmaps = 1 << 25,
              MonitorTrapFlag = 1 << 27, UseMsrBitmaps = 1 << 28, MonitorExiting = 1 << 29, PauseExiting = 1 << 30,
              ActivateSecondary = 1u << 31;
}
namespace secondary {
constexpr u32 VirtualizeApicAccesses = 1 << 0, EnableEpt = 1 << 1, DescriptorTableExiting = 1 << 2,
              EnableRdtscp = 1 << 3, VirtualizeX2apic = 1 << 4, EnableVpid = 1 << 5, WbinvdExiting = 1 << 6,
              UnrestrictedGuest = 1 << 7, ApicRegisterVirtualization = 1 << 8, VirtualInterruptDelivery = 1 << 9,
              PauseLoopExiting = 1 << 10, RdrandExiting = 1 << 11, EnableInvpcid = 1 << 12, EnableVmfunc = 1 << 13,
              VmcsShadowing = 1 << 14, RdseedExiting = 1 << 16, EnablePml = 1 << 17, EptViolationVe = 1 << 18,
              EnableXsaves = 1 << 20, ModeBasedExecute = 1 << 22, UseTscScaling = 1 << 25;
}
namespace exit_control {
constexpr u32 SaveDebugControls = 1 << 2, HostAddressSpaceSize = 1 << 9, AcknowledgeInterrupt = 1 << 15,
              SavePat = 1 << 18, LoadPat = 1 << 19, SaveEfer = 1 << 20, LoadEfer = 1 << 21,
              SavePreemptionTimer = 1 << 22;
}
namespace entry_control {
constexpr u32 LoadDebugControls = 1 << 2, Ia32eModeGuest = 1 << 9, EntryToSmm = 1 << 10,
              DeactivateDualMonitor = 1 << 11, LoadPat = 1 << 14, LoadEfer = 1 << 15;
}

// The words of controls that a hypervisor negotiates through a capability MSR.
enum class ControlWord : u8 { Pin, Primary, Secondary, Exit, Entry, kCount };

struct ControlBit {
  ControlWord word;
  u32 bit;
  std::string_view name;
  VmxFeature needs; // kCount: every model offers it
};

// Every control that the software CPU implements; the capability MSRs offer these and no others.
constexpr ControlBit kControlBits[] = {
    {ControlWord::Pin, pin::ExternalInterruptExiting, "external-interrupt exiting", VmxFeature::kCount},
    {ControlWord::Pin, pin::NmiExiting, "NMI exiting", VmxFeature::kCount},
    {ControlWord::Pin, pin::VirtualNmis, "virtual NMIs", VmxFeature::kCount},
    {ControlWord::Pin, pin::PreemptionTimer, "activate VMX-preemption timer", VmxFeature::preemption_timer},
    {ControlWord::Pin, pin::PostedInterrupts, "process posted interrupts", VmxFeature::posted_interrupts},
    {ControlWord::Primary, primary::InterruptWindow, "interrupt-window exiting", VmxFeature::kCount},
    {ControlWord::Primary, primary::UseTscOffsetting, "use TSC offsetting", VmxFeature::kCount},
    {ControlWord::Primary, primary::HltExiting, "HLT exiting", VmxFeature::kCount},
    {ControlWord::Primary, primary::InvlpgExiting, "INVLPG exiting", VmxFeature::kCount},
    {ControlWord::Primary, primary::MwaitExiting, "MWAIT exiting", VmxFeature::kCount},
    {ControlWord::Primary, primary::RdpmcExiting, "RDPMC exiting", VmxFeature::kCount},
    {ControlWord::Primary, primary::RdtscExiting, "RDTSC exiting", VmxFeature::kCount},
    {ControlWord::Primary, primary::Cr3LoadExiting, "CR3-load exiting", VmxFeature::kCount},
    {ControlWord::Primary, primary::Cr3StoreExiting, "CR3-store exiting", VmxFeature::kCount},
    {ControlWord::Primary, primary::Cr8LoadExiting, "CR8-load exiting", VmxFeature::kCount},
    {ControlWord::Primary, primary::Cr8StoreExiting, "CR8-store exiting", VmxFeature::kCount},
    {ControlWord::Primary, primary::UseTprShadow, "use TPR shadow", VmxFeature::tpr_shadow},
    {ControlWord::Primary, primary::NmiWindow, "NMI-window exiting", VmxFeature::kCount},
    {ControlWord::Primary, primary::MovDrExiting, "MOV-DR exiting", VmxFeature::kCount},
    {ControlWord::Primary, primary::UnconditionalIoExiting, "unconditional I/O exiting", VmxFeature::kCount},
    {ControlWord::Primary, primary::UseIoBitmaps, "use I/O bitmaps", VmxFeature::io_bitmaps},
    {ControlWord::Primary, primary::MonitorTrapFlag, "monitor trap flag", VmxFeature::monitor_trap},
    {ControlWord::Primary, primary::UseMsrBitmaps, "use MSR bitmaps", VmxFeature::msr_bitmaps},
    {ControlWord::Primary, primary::MonitorExiting, "MONITOR exiting", VmxFeature::kCount},
    {ControlWord::Primary, primary::PauseExiting, "PAUSE exiting", VmxFeature::kCount},
    {ControlWord::Primary, primary::ActivateSecondary, "activate secondary controls", VmxFeature::kCount},
    {ControlWord::Secondary, secondary::VirtualizeApicAccesses, "virtualize APIC accesses",
     VmxFeature::virtualize_apic_accesses},
    {ControlWord::Secondary, secondary::EnableEpt, "enable EPT", VmxFeature::ept},
    {ControlWord::Secondary, secondary::DescriptorTableExiting, "descriptor-table exiting",
     VmxFeature::descriptor_table},
    {ControlWord::Secondary, secondary::EnableRdtscp, "enable RDTSCP", VmxFeature::rdtscp},
    {ControlWord::Secondary, secondary::VirtualizeX2apic, "virtualize x2APIC mode", VmxFeature::virtualize_x2apic},
    {ControlWord::Secondary, secondary::EnableVpid, "enable VPID", VmxFeature::vpid},
    {ControlWord::Secondary, secondary::WbinvdExiting, "WBINVD exiting", VmxFeature::wbinvd_exiting},
    {ControlWord::Secondary, secondary::UnrestrictedGuest, "unrestricted guest", VmxFeature::unrestricted_guest},
    {ControlWord::Secondary, secondary::ApicRegisterVirtualization, "APIC-register virtualization",
     VmxFeature::apic_register_virtualization},
    {ControlWord::Secondary, secondary::VirtualInterruptDelivery, "virtual-interrupt delivery",
     VmxFeature::virtual_interrupt_delivery},
    {ControlWord::Secondary, secondary::PauseLoopExiting, "PAUSE-loop exiting", VmxFeature::pause_loop},
    {ControlWord::Secondary, secondary::RdrandExiting, "RDRAND exiting", VmxFeature::rdrand_exiting},
    {ControlWord::Secondary, secondary::EnableInvpcid, "enable INVPCID", VmxFeature::invpcid_exiting},
    {ControlWord::Secondary, secondary::EnableVmfunc, "enable VM functions", VmxFeature::vmfunc},
    {ControlWord::Secondary, secondary::VmcsShadowing, "VMCS shadowing", VmxFeature::vmcs_shadowing},
    {ControlWord::Secondary, secondary::RdseedExiting, "RDSEED exiting", VmxFeature::rdseed_exiting},
    {ControlWord::Secondary, secondary::EnablePml, "enable PML", VmxFeature::pml},
    {ControlWord::Secondary, secondary::EptViolationVe, "EPT-violation #VE", VmxFeature::ve},
    {ControlWord::Secondary, secondary::EnableXsaves, "enable XSAVES/XRSTORS", VmxFeature::xsaves},
    {ControlWord::Secondary, secondary::ModeBasedExecute, "mode-based execute control for EPT",
     VmxFeature::mode_based_execute},
    {ControlWord::Secondary, secondary::UseTscScaling, "use TSC scaling", VmxFeature::tsc_scaling},
    {ControlWord::Exit, exit_control::SaveDebugControls, "save debug controls", VmxFeature::kCount},
    {ControlWord::Exit, exit_control::HostAddressSpaceSize, "host address-space size", VmxFeature::kCount},
    {ControlWord::Exit, exit_control::AcknowledgeInterrupt, "acknowledge interrupt on exit", VmxFeature::kCount},
    {ControlWord::Exit, exit_control::SavePat, "save IA32_PAT", VmxFeature::kCount},
    {ControlWord::Exit, exit_control::LoadPat, "load IA32_PAT", VmxFeature::kCount},
    {ControlWord::Exit, exit_control::SaveEfer, "save IA32_EFER", VmxFeature::kCount},
    {ControlWord::Exit, exit_control::LoadEfer, "load IA32_EFER", VmxFeature::kCount},
    {ControlWord::Exit, exit_control::SavePreemptionTimer, "save VMX-preemption timer value",
     VmxFeature::preemption_timer},
    {ControlWord::Entry, entry_control::LoadDebugControls, "load debug controls", VmxFeature::kCount},
    {ControlWord::Entry, entry_control::Ia32eModeGuest, "IA-32e mode guest", VmxFeature::kCount},
    {ControlWord::Entry, entry_control::LoadPat, "load IA32_PAT", VmxFeature::kCount},
    {ControlWord::Entry, entry_control::LoadEfer, "load IA32_EFER", VmxFeature::kCount},
};

// Reserved bits that are 1 (SDM 3D appendix A): `always` by the original MSR, `still` by the TRUE one.
struct DefaultOnes {
  u32 always, still;
};
constexpr DefaultOnes kDefaultOnes[] = {
    {0x16, 0x16},                                                                       // pin-based
    {0x0401'E172, 0x0401'E172 & ~(primary::Cr3LoadExiting | primary::Cr3StoreExiting)}, // primary
    {0, 0},                                                                             // secondary
    {0x0003'6DFF, 0x0003'6DFF & ~exit_control::SaveDebugControls},                      // VM-exit
    {0x0000'11FF, 0x0000'11FF & ~entry_control::LoadDebugControls},                     // VM-entry
};

enum class ExitReason : u16 {
  ExceptionOrNmi = 0,
  ExternalInterrupt = 1,
  TripleFault = 2,
  Init = 3,
  Sipi = 4,
  InterruptWindow = 7,
  NmiWindow = 8,
  TaskSwitch = 9,
  Cpuid = 10,
  Getsec = 11,
  Hlt = 12,
  Invd = 13,
  Invlpg = 14,
  Rdpmc = 15,
  Rdtsc = 16,
  Rsm = 17,
  Vmcall = 18,
  Vmclear = 19,
  Vmlaunch = 20,
  Vmptrld = 21,
  Vmptrst = 22,
  Vmread = 23,
  Vmresume = 24,
  Vmwrite = 25,
  Vmxoff = 26,
  Vmxon = 27,
  CrAccess = 28,
  DrAccess = 29,
  IoInstruction = 30,
  Rdmsr = 31,
  Wrmsr = 32,
  EntryFailureGuestState = 33,
  EntryFailureMsrLoading = 34,
  Mwait = 36,
  MonitorTrapFlag = 37,
  Monitor = 39,
  Pause = 40,
  TprBelowThreshold = 43,
  ApicAccess = 44,
  VirtualizedEoi = 45,
  GdtrOrIdtr = 46,
  LdtrOrTr = 47,
  EptViolation = 48,
  EptMisconfiguration = 49,
  Invept = 50,
  Rdtscp = 51,
  PreemptionTimer = 52,
  Invvpid = 53,
  Wbinvd = 54,
  Xsetbv = 55,
  ApicWrite = 56,
  Rdrand = 57,
  Invpcid = 58,
  Vmfunc = 59,
  Rdseed = 61,
  PmlFull = 62,
  Xsaves = 63,
  Xrstors = 64,
};
[[nodiscard]] std::string_view name_of(ExitReason reason);
constexpr u32 kEntryFailureBit = 1u << 31; // of the exit-reason field

// VM-instruction error numbers (SDM 3C §31.4).
enum class VmxError : u8 {
  VmcallInRoot = 1,
  VmclearInvalidAddress = 2,
  VmclearVmxonPointer = 3,
  VmlaunchNonClear = 4,
  VmresumeNonLaunched = 5,
  VmresumeAfterVmxoff = 6,
  EntryInvalidControls = 7,
  EntryInvalidHostState = 8,
  VmptrldInvalidAddress = 9,
  VmptrldVmxonPointer = 10,
  VmptrldWrongRevision = 11,
  UnsupportedField = 12,
  VmwriteReadOnly = 13,
  VmxonInRoot = 15,
  EntryBlockedByMovSs = 26,
  InvalidInvalidationOperand = 28,
};

// Exit qualification of a failed entry with reason 33.
enum class EntryFailure : u8 { Default = 0, Pdptes = 2, NmiInjection = 3, LinkPointer = 4 };

// VMX-abort indicators (SDM 3C §28.7).
enum class VmxAbort : u32 {
  SavingGuestMsrs = 1,
  HostPdptes = 2,
  CorruptedVmcs = 3,
  LoadingHostMsrs = 4,
  MachineCheck = 5
};

// Interruption information (SDM 3C §25.8.3, §25.9.2).
namespace interruption {
constexpr u32 kVector = 0xFF, kErrorValid = 1 << 11, kNmiUnblocking = 1 << 12, kReserved = 0x7FFF'F000,
              kValid = 1u << 31;
enum class Type : u8 {
  ExternalInterrupt = 0,
  Reserved = 1,
  Nmi = 2,
  HardwareException = 3,
  SoftwareInterrupt = 4,
  PrivilegedSoftwareException = 5,
  SoftwareException = 6,
  Other = 7
};
[[nodiscard]] constexpr Type type(u32 information) { return static_cast<Type>(information >> 8 & 7); }
[[nodiscard]] constexpr u8 vector(u32 information) { return static_cast<u8>(information); }
} // namespace interruption

// Interruptibility state (SDM 3C table 25-3).
namespace interruptibility {
constexpr u32 kSti = 1 << 0, kMovSs = 1 << 1, kSmi = 1 << 2, kNmi = 1 << 3;
}
// Pending debug exceptions (SDM 3C table 25-4).
namespace pending_debug {
constexpr u64 kBreakpoints = 15, kEnabled = 1 << 12, kSingleStep = 1 << 14;
}

constexpr u64 kNoVmcs = ~0ull;
constexpr u32 kShadowVmcs = 1u << 31; // shadow-VMCS indicator beside the revision identifier

} // namespace abyme::x86
