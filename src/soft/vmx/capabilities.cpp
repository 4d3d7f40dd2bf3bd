#include "soft/vmx/capabilities.hpp"
#include "soft/vmx/state.hpp"
#include "soft/vmx/vmx.hpp"
#include "x86/msr.hpp"
#include "x86/vmcs.hpp"
#include <algorithm>

namespace abyme::soft::vmx {
namespace {

using x86::ControlWord;
using x86::Feature;
using x86::VmxFeature;

[[nodiscard]] bool offered(const x86::CpuProfile &profile, VmxFeature needs) {
  return needs == VmxFeature::kCount || profile.has(needs);
}

// Features that the SDM allows only together: a control must not be offered when the one it builds on is not.
[[nodiscard]] u32 without_prerequisites(ControlWord word, u32 ones) {
  if (word != ControlWord::Secondary) return ones;
  using namespace x86::secondary;
  if (!(ones & EnableEpt)) ones &= ~(UnrestrictedGuest | EnablePml | EptViolationVe | ModeBasedExecute);
  return ones;
}

Capabilities::Allowed allowed(const x86::CpuProfile &profile, ControlWord word) {
  const auto &defaults = x86::kDefaultOnes[static_cast<size_t>(word)];
  Capabilities::Allowed out{.zeros = defaults.still, .ones = defaults.always, .legacy_zeros = defaults.always};
  for (const auto &control : x86::kControlBits)
    if (control.word == word && offered(profile, control.needs)) out.ones |= control.bit;
  out.ones = without_prerequisites(word, out.ones);
  return out;
}

// SDM 3D §A.1: size of the VMCS region, write-back memory type, INS/OUTS information, TRUE MSRs.
constexpr u64 kBasic = kRevision | 4096ull << 32 | 6ull << 50 | 1ull << 54 | 1ull << 55;

u64 make_misc(const Capabilities &c) {
  u64 misc = kPreemptionTimerShift | 7 << 6 /* HLT, shutdown, wait-for-SIPI */ | kCr3Targets << 16;
  // VM exits store EFER.LMA in "IA-32e mode guest"; injection of software events with length 0.
  if (c[ControlWord::Secondary].ones & x86::secondary::UnrestrictedGuest) misc |= 1 << 5;
  if (c[ControlWord::Secondary].ones & x86::secondary::VmcsShadowing) misc |= 1 << 29;
  return misc | 1 << 30;
}

u64 make_ept_vpid(const x86::CpuProfile &profile) {
  using namespace ept_capability;
  u64 out = 0;
  if (profile.has(VmxFeature::ept)) {
    out |= WalkLength4 | Uncacheable | WriteBack | Pages2M | Invept | InveptSingle | InveptAll;
    if (profile.has(VmxFeature::ept_execute_only)) out |= ExecuteOnly;
    if (profile.has(VmxFeature::ept_1gb)) out |= Pages1G;
    if (profile.has(VmxFeature::ept_accessed_dirty)) out |= AccessedDirty;
  }
  if (profile.has(VmxFeature::vpid))
    out |= Invvpid | InvvpidAddress | InvvpidSingle | InvvpidAll | InvvpidRetainGlobals;
  return out;
}

u64 valid_cr4(const x86::CpuProfile &profile) {
  using namespace x86::cr4;
  struct Row {
    Feature feature;
    u64 bits;
  };
  static constexpr Row kRows[] = {
      {Feature::vme, VME | PVI},  {Feature::tsc, TSD},           {Feature::de, DE},         {Feature::pse, PSE},
      {Feature::pae, PAE},        {Feature::mce, MCE},           {Feature::pge, PGE},       {Feature::fxsr, OSFXSR},
      {Feature::sse, OSXMMEXCPT}, {Feature::umip, UMIP},         {Feature::la57, LA57},     {Feature::vmx, VMXE},
      {Feature::pcid, PCIDE},     {Feature::fsgsbase, FSGSBASE}, {Feature::xsave, OSXSAVE}, {Feature::smep, SMEP},
      {Feature::smap, SMAP},      {Feature::pku, PKE},           {Feature::pks, PKS},
  };
  u64 out = PCE;
  for (const auto &row : kRows)
    if (profile.has(row.feature)) out |= row.bits;
  return out;
}

u64 make_vmcs_enum(const x86::CpuProfile &profile) {
  u64 highest = 0;
  for (const auto &field : x86::kVmcsFieldTable)
    if (offered(profile, field.needs)) highest = std::max<u64>(highest, field.encoding >> 1 & 0x1FF);
  return highest << 1;
}

[[nodiscard]] u64 msr_value(u32 zeros, u32 ones) { return zeros | static_cast<u64>(ones) << 32; }

// The MSRs that exist only with a feature: false for #GP(0).
bool conditional_msr(const Capabilities &c, u32 msr, u64 &value) {
  const auto &secondary = c[ControlWord::Secondary];
  switch (msr) {
  case x86::msr::IA32_VMX_PROCBASED_CTLS2: value = msr_value(secondary.zeros, secondary.ones); return true;
  case x86::msr::IA32_VMX_EPT_VPID_CAP: value = c.ept_vpid; return c.ept_vpid != 0;
  case x86::msr::IA32_VMX_VMFUNC: value = c.vmfunc; return c.vmfunc != 0;
  default: return false;
  }
}

} // namespace

Capabilities make_capabilities(const x86::CpuProfile &profile) {
  Capabilities c;
  for (size_t i = 0; i < c.controls.size(); i++) c.controls[i] = allowed(profile, static_cast<ControlWord>(i));
  c.basic = kBasic;
  c.misc = make_misc(c);
  c.cr4_valid = c.cr4_fixed1 = valid_cr4(profile);
  c.vmcs_enum = make_vmcs_enum(profile);
  c.ept_vpid = make_ept_vpid(profile);
  c.vmfunc = profile.has(VmxFeature::vmfunc) && profile.has(VmxFeature::ept) ? 1 : 0;
  c.physical_limit = 1ull << profile.physical_bits;
  return c;
}

bool capability_msr(const Cpu &cpu, u32 msr, u64 &value) {
  if (msr == x86::msr::IA32_FEATURE_CONTROL) {
    value = cpu.msr.feature_control;
    return true;
  }
  if (!cpu.profile->has(Feature::vmx)) return false;
  const Capabilities &c = cpu.vmx->capabilities;
  const auto legacy = [&](ControlWord w) { return value = msr_value(c[w].legacy_zeros, c[w].ones), true; };
  const auto exact = [&](ControlWord w) { return value = msr_value(c[w].zeros, c[w].ones), true; };
  switch (msr) {
  case x86::msr::IA32_VMX_BASIC: value = c.basic; return true;
  case x86::msr::IA32_VMX_PINBASED_CTLS: return legacy(ControlWord::Pin);
  case x86::msr::IA32_VMX_PROCBASED_CTLS: return legacy(ControlWord::Primary);
  case x86::msr::IA32_VMX_EXIT_CTLS: return legacy(ControlWord::Exit);
  case x86::msr::IA32_VMX_ENTRY_CTLS: return legacy(ControlWord::Entry);
  case x86::msr::IA32_VMX_MISC: value = c.misc; return true;
  case x86::msr::IA32_VMX_CR0_FIXED0: value = kCr0Fixed0; return true;
  case x86::msr::IA32_VMX_CR0_FIXED1: value = kCr0Fixed1; return true;
  case x86::msr::IA32_VMX_CR4_FIXED0: value = kCr4Fixed0; return true;
  case x86::msr::IA32_VMX_CR4_FIXED1: value = c.cr4_fixed1; return true;
  case x86::msr::IA32_VMX_VMCS_ENUM: value = c.vmcs_enum; return true;
  case x86::msr::IA32_VMX_TRUE_PINBASED_CTLS: return exact(ControlWord::Pin);
  case x86::msr::IA32_VMX_TRUE_PROCBASED_CTLS: return exact(ControlWord::Primary);
  case x86::msr::IA32_VMX_TRUE_EXIT_CTLS: return exact(ControlWord::Exit);
  case x86::msr::IA32_VMX_TRUE_ENTRY_CTLS: return exact(ControlWord::Entry);
  default: return conditional_msr(c, msr, value);
  }
}

// SDM 3C §24.8. With unrestricted guest, non-root operation may clear CR0.PE and CR0.PG.
bool cr0_allowed(const Cpu &cpu, u64 value) {
  if (cpu.vmx_mode == VmxMode::Off) return true;
  const bool free =
      cpu.vmx_mode == VmxMode::NonRoot && (cpu.vmx->controls.secondary & x86::secondary::UnrestrictedGuest);
  const u64 fixed = free ? kCr0Fixed0 & ~(x86::cr0::PE | x86::cr0::PG) : kCr0Fixed0;
  return (value & fixed) == fixed;
}

bool cr4_allowed(const Cpu &cpu, u64 value) {
  return cpu.vmx_mode == VmxMode::Off ||
         ((value & kCr4Fixed0) == kCr4Fixed0 && !(value & ~cpu.vmx->capabilities.cr4_fixed1));
}

} // namespace abyme::soft::vmx
