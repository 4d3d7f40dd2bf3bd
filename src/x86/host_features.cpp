#include "x86/host_features.hpp"
#include <cpuid.h>

namespace abyme::x86 {
namespace {

using enum Feature;

// Implemented by the software CPU on its own, whatever the host can do.
constexpr Feature kEmulated[] = {
    vmx,        cx16,
    pcid,       x2apic,
    movbe,      tsc_deadline_timer,
    fpu,        vme,
    de,         pse,
    tsc,        msr,
    pae,        mce,
    cx8,        apic,
    sep,        mtrr,
    pge,        mca,
    cmov,       pat,
    pse36,      clflush,
    mmx,        fxsr,
    sse,        sse2,
    ss,         ht,
    fsgsbase,   smep,
    erms,       invpcid,
    tsc_adjust, smap,
    umip,       rdpid,
    fsrm,       md_clear,
    syscall,    nx,
    rdtscp,     lm,
    lahf_lm,    arch_capabilities,
    spec_ctrl,  pdpe1gb,
    prefetchw,  constant_tsc,
    arat,
};

// Executed on the host's own units, so offered where the host has them.
constexpr Feature kNative[] = {
    sse3, pclmulqdq, ssse3,  sse4_1,     sse4_2,   popcnt, aes,     xsave, rdrand,
    bmi1, bmi2,      rdseed, adx,        abm,      sha_ni, gfni,    clwb,  f16c,
    fma,  avx,       avx2,   clflushopt, xsaveopt, xsavec, xgetbv1, vaes,  vpclmulqdq,
};

// Besides CPUID, the host's kernel must have enabled the register state that these use.
constexpr Feature kNeedYmm[] = {avx, avx2, fma, f16c, vaes, vpclmulqdq};
constexpr u64 kYmmState = 6; // XCR0: SSE and AVX

VmxFeatureSet software_vmx_features() {
  using enum VmxFeature;
  return make_set({ept,
                   vpid,
                   unrestricted_guest,
                   preemption_timer,
                   tpr_shadow,
                   virtualize_apic_accesses,
                   vmcs_shadowing,
                   ept_accessed_dirty,
                   ept_1gb,
                   ept_execute_only,
                   invpcid_exiting,
                   VmxFeature::rdtscp,
                   VmxFeature::xsaves,
                   pause_loop,
                   wbinvd_exiting,
                   descriptor_table,
                   rdrand_exiting,
                   rdseed_exiting,
                   msr_bitmaps,
                   io_bitmaps,
                   monitor_trap,
                   tsc_scaling,
                   pml,
                   vmfunc});
}

u32 register_of(const CpuidLeaf &leaf, CpuidRegister reg) {
  switch (reg) {
  case CpuidRegister::eax: return leaf.eax;
  case CpuidRegister::ebx: return leaf.ebx;
  case CpuidRegister::ecx: return leaf.ecx;
  case CpuidRegister::edx: return leaf.edx;
  }
  __builtin_unreachable();
}

bool offers(const CpuidFunction &cpuid, Feature feature) {
  const auto &row = describe(feature);
  const u32 maximum = cpuid(row.leaf & 0x8000'0000, 0).eax;
  return row.leaf <= maximum && register_of(cpuid(row.leaf, row.subleaf), row.reg) >> row.bit & 1;
}

} // namespace

CpuidLeaf host_cpuid(u32 leaf, u32 subleaf) {
  CpuidLeaf out{.leaf = leaf, .subleaf = subleaf, .subleaf_matters = true, .eax = 0, .ebx = 0, .ecx = 0, .edx = 0};
  __cpuid_count(leaf, subleaf, out.eax, out.ebx, out.ecx, out.edx);
  return out;
}

u64 host_xcr0() {
  constexpr u32 kOsxsave = 1u << 27;
  if (!(host_cpuid(1, 0).ecx & kOsxsave)) return 0;
  u32 low = 0, high = 0;
  asm("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return static_cast<u64>(high) << 32 | low;
}

HostFeatures software_cpu_features() { return software_cpu_features(host_cpuid, host_xcr0()); }

HostFeatures software_cpu_features(const CpuidFunction &cpuid, u64 xcr0) {
  HostFeatures out{.source = "the software CPU on this host",
                   .features = {},
                   .vmx_features = software_vmx_features(),
                   .xsave_components = {}};
  for (const auto f : kEmulated) put(out.features, f);
  for (const auto f : kNative) put(out.features, f, offers(cpuid, f));
  if ((xcr0 & kYmmState) != kYmmState)
    for (const auto f : kNeedYmm) put(out.features, f, false);
  // XSAVES with no supervisor state is XSAVEC (SDM 1 §13.11).
  put(out.features, xsaves, contains(out.features, xsavec));
  out.features &= ~without_prerequisite(out.features);
  // The standard place of the AVX state (SDM 1 §13.4.2): the size and offset are fixed.
  if (contains(out.features, avx))
    out.xsave_components = {
        {.leaf = 0xD, .subleaf = 2, .subleaf_matters = true, .eax = 256, .ebx = 576, .ecx = 0, .edx = 0}};
  return out;
}

HostFeatures features_of(std::string source, const CpuidFunction &cpuid, u64 tsc_hz) {
  HostFeatures out{
      .source = std::move(source), .features = {}, .vmx_features = {}, .tsc_hz = tsc_hz, .xsave_components = {}};
  for (const auto &row : feature_table()) put(out.features, row.feature, offers(cpuid, row.feature));
  out.features &= ~without_prerequisite(out.features);
  if (cpuid(0x8000'0000, 0).eax >= 0x8000'0008) out.physical_bits = static_cast<u8>(cpuid(0x8000'0008, 0).eax);
  constexpr std::pair<Feature, u32> kComponents[] = {{avx, 2}, {pku, 9}};
  for (const auto &[feature, component] : kComponents)
    if (contains(out.features, feature)) out.xsave_components.push_back(cpuid(0xD, component));
  return out;
}

} // namespace abyme::x86
