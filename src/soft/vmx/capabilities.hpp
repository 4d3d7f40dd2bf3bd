#pragma once
#include "x86/vmx.hpp"
#include <array>

namespace abyme::soft::vmx {

// What the IA32_VMX_* MSRs say (SDM 3D appendix A), derived from the control table and the CPU model.
struct Capabilities {
  struct Allowed {
    u32 zeros = 0; // allowed 0-settings of the TRUE MSR: a bit that is 1 here must be 1 in the control
    u32 ones = 0;  // allowed 1-settings: a bit that is 0 here must be 0
    u32 legacy_zeros = 0;

    [[nodiscard]] constexpr bool permits(u32 controls) const { return !(zeros & ~controls) && !(controls & ~ones); }
  };
  std::array<Allowed, static_cast<size_t>(x86::ControlWord::kCount)> controls;
  u64 basic = 0, misc = 0, cr4_fixed1 = 0, vmcs_enum = 0, ept_vpid = 0, vmfunc = 0;
  u64 physical_limit = 0; // first address beyond the physical-address width
  u64 cr4_valid = 0;      // bits of CR4 that the CPU model has

  [[nodiscard]] const Allowed &operator[](x86::ControlWord word) const { return controls[static_cast<size_t>(word)]; }
};

[[nodiscard]] Capabilities make_capabilities(const x86::CpuProfile &profile);

constexpr u32 kRevision = 0x0041'4259; // VMCS revision identifier
constexpr u64 kCr0Fixed0 = 0x8000'0021, kCr0Fixed1 = 0xFFFF'FFFF, kCr4Fixed0 = 0x2000;
constexpr unsigned kPreemptionTimerShift = 5; // the timer counts once when bit 5 of the TSC changes
constexpr unsigned kCr3Targets = 4;
constexpr u32 kMaxMsrListEntries = 512;

namespace ept_capability {
constexpr u64 ExecuteOnly = 1 << 0, WalkLength4 = 1 << 6, Uncacheable = 1 << 8, WriteBack = 1 << 14, Pages2M = 1 << 16,
              Pages1G = 1 << 17, Invept = 1 << 20, AccessedDirty = 1 << 21, InveptSingle = 1 << 25, InveptAll = 1 << 26;
constexpr u64 Invvpid = 1ull << 32, InvvpidAddress = 1ull << 40, InvvpidSingle = 1ull << 41, InvvpidAll = 1ull << 42,
              InvvpidRetainGlobals = 1ull << 43;
} // namespace ept_capability

} // namespace abyme::soft::vmx
