#pragma once
#include "base/int.hpp"
#include <bitset>
#include <string>
#include <string_view>
#include <vector>

namespace abyme::x86 {

// Features that a guest CPU can have, named as Linux names them in /proc/cpuinfo. The table in features.cpp gives each
// its CPUID bit. A row here, a row there: a test checks that both agree.
enum class Feature : u8 {
  // CPUID 1
  sse3,
  pclmulqdq,
  monitor,
  vmx,
  ssse3,
  fma,
  cx16,
  pcid,
  sse4_1,
  sse4_2,
  x2apic,
  movbe,
  popcnt,
  tsc_deadline_timer,
  aes,
  xsave,
  avx,
  f16c,
  rdrand,
  hypervisor,
  fpu,
  vme,
  de,
  pse,
  tsc,
  msr,
  pae,
  mce,
  cx8,
  apic,
  sep,
  mtrr,
  pge,
  mca,
  cmov,
  pat,
  pse36,
  clflush,
  mmx,
  fxsr,
  sse,
  sse2,
  ss,
  ht,
  // CPUID 7
  fsgsbase,
  tsc_adjust,
  bmi1,
  avx2,
  smep,
  bmi2,
  erms,
  invpcid,
  rdseed,
  adx,
  smap,
  clflushopt,
  clwb,
  sha_ni,
  umip,
  pku,
  gfni,
  vaes,
  vpclmulqdq,
  la57,
  rdpid,
  fsrm,
  md_clear,
  arch_capabilities,
  spec_ctrl,
  pks,
  // CPUID 0xD.1
  xsaveopt,
  xsavec,
  xgetbv1,
  xsaves,
  // CPUID 6
  arat,
  // CPUID 0x80000001, 0x80000007
  syscall,
  nx,
  pdpe1gb,
  rdtscp,
  lm,
  lahf_lm,
  abm,
  prefetchw,
  constant_tsc,
  kCount
};

struct CpuidLeaf {
  u32 leaf, subleaf;
  bool subleaf_matters;
  u32 eax, ebx, ecx, edx;
};

// Which VMX controls this model offers beyond the base set; the soft engine derives its capability MSRs from it.
enum class VmxFeature : u8 {
  ept,
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
  rdtscp,
  xsaves,
  vmfunc,
  pml,
  apic_register_virtualization,
  virtual_interrupt_delivery,
  virtualize_x2apic,
  posted_interrupts,
  tsc_scaling,
  ve,
  mode_based_execute,
  pause_loop,
  wbinvd_exiting,
  descriptor_table,
  rdrand_exiting,
  rdseed_exiting,
  msr_bitmaps,
  io_bitmaps,
  monitor_trap,
  kCount
};

// What a guest sees of its CPU: decided before the engine is made, the same for every vCPU but for the APIC ID fields,
// which the engine fills in (CPUID 1.EBX[31:24], 0xB.EDX, 0x1F.EDX), as it does the dynamic bits (OSXSAVE, OSPKE, the
// XSAVE size of 0xD.EBX).
struct CpuProfile {
  std::string model;
  std::bitset<static_cast<size_t>(Feature::kCount)> features;
  std::bitset<static_cast<size_t>(VmxFeature::kCount)> vmx_features;
  std::vector<CpuidLeaf> leaves; // sorted by (leaf, subleaf)
  u32 max_basic_leaf = 0;
  u32 max_extended_leaf = 0;
  u32 signature = 0; // family, model and stepping as CPUID 1.EAX has them; EDX at RESET
  u8 physical_bits = 40;
  u64 xcr0_mask = 3;          // bits that XSETBV accepts
  u64 tsc_hz = 1'000'000'000; // the guest TSC counts nanoseconds of the VM's clock

  [[nodiscard]] bool has(Feature f) const { return features[static_cast<size_t>(f)]; }
  [[nodiscard]] bool has(VmxFeature f) const { return vmx_features[static_cast<size_t>(f)]; }
  // The leaf as CPUID returns it: an absent leaf above the maximum reads as the highest basic one (SDM 2A CPUID),
  // others as zeroes.
  [[nodiscard]] CpuidLeaf lookup(u32 leaf, u32 subleaf) const;
};

} // namespace abyme::x86
