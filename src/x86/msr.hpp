#pragma once
#include "base/int.hpp"
#include <initializer_list>

// Model-specific registers, named as SDM 4 table 2-2 names them. Numbers here; what they do is their owner's.
namespace abyme::x86::msr {

constexpr u32 IA32_P5_MC_ADDR = 0x0, IA32_P5_MC_TYPE = 0x1;
constexpr u32 IA32_MONITOR_FILTER_SIZE = 0x6;
constexpr u32 IA32_TIME_STAMP_COUNTER = 0x10;
constexpr u32 IA32_PLATFORM_ID = 0x17;
constexpr u32 IA32_APIC_BASE = 0x1B;
constexpr u32 EBL_CR_POWERON = 0x2A;
constexpr u32 TEST_CTRL = 0x33;
constexpr u32 SMI_COUNT = 0x34;
constexpr u32 IA32_FEATURE_CONTROL = 0x3A;
constexpr u32 IA32_TSC_ADJUST = 0x3B;
constexpr u32 IA32_SPEC_CTRL = 0x48;
constexpr u32 IA32_PRED_CMD = 0x49;
constexpr u32 IA32_BIOS_UPDT_TRIG = 0x79;
constexpr u32 IA32_BIOS_SIGN_ID = 0x8B;
constexpr u32 IA32_SMM_MONITOR_CTL = 0x9B;
constexpr u32 IA32_SMBASE = 0x9E;
constexpr u32 IA32_PMC0 = 0xC1;
constexpr u32 MSR_FSB_FREQ = 0xCD;
constexpr u32 IA32_CORE_CAPABILITIES = 0xCF;
constexpr u32 MSR_PLATFORM_INFO = 0xCE;
constexpr u32 MSR_PKG_CST_CONFIG_CONTROL = 0xE2;
constexpr u32 IA32_MPERF = 0xE7, IA32_APERF = 0xE8;
constexpr u32 IA32_MTRRCAP = 0xFE;
constexpr u32 IA32_ARCH_CAPABILITIES = 0x10A;
constexpr u32 IA32_FLUSH_CMD = 0x10B;
constexpr u32 IA32_TSX_CTRL = 0x122;
constexpr u32 MSR_MCU_OPT_CTRL = 0x123;
constexpr u32 MSR_MISC_FEATURES_ENABLES = 0x140;
constexpr u32 IA32_SYSENTER_CS = 0x174, IA32_SYSENTER_ESP = 0x175, IA32_SYSENTER_EIP = 0x176;
constexpr u32 IA32_MCG_CAP = 0x179, IA32_MCG_STATUS = 0x17A, IA32_MCG_CTL = 0x17B;
constexpr u32 IA32_PERFEVTSEL0 = 0x186;
constexpr u32 IA32_PERF_STATUS = 0x198, IA32_PERF_CTL = 0x199;
constexpr u32 IA32_CLOCK_MODULATION = 0x19A;
constexpr u32 IA32_THERM_INTERRUPT = 0x19B, IA32_THERM_STATUS = 0x19C;
constexpr u32 IA32_MISC_ENABLE = 0x1A0;
constexpr u32 MSR_TEMPERATURE_TARGET = 0x1A2;
constexpr u32 MSR_MISC_FEATURE_CONTROL = 0x1A4;
constexpr u32 MSR_OFFCORE_RSP_0 = 0x1A6, MSR_OFFCORE_RSP_1 = 0x1A7;
constexpr u32 MSR_TURBO_RATIO_LIMIT = 0x1AD;
constexpr u32 IA32_ENERGY_PERF_BIAS = 0x1B0;
constexpr u32 IA32_PACKAGE_THERM_STATUS = 0x1B1, IA32_PACKAGE_THERM_INTERRUPT = 0x1B2;
constexpr u32 MSR_LBR_SELECT = 0x1C8, MSR_LASTBRANCH_TOS = 0x1C9;
constexpr u32 IA32_DEBUGCTL = 0x1D9;
constexpr u32 MSR_LASTBRANCHFROMIP = 0x1DB, MSR_LASTBRANCHTOIP = 0x1DC;
constexpr u32 MSR_LASTINTFROMIP = 0x1DD, MSR_LASTINTTOIP = 0x1DE;
constexpr u32 MSR_POWER_CTL = 0x1FC;
constexpr u32 IA32_MTRR_PHYSBASE0 = 0x200, IA32_MTRR_PHYSMASK0 = 0x201; // pairs, eight of them
constexpr u32 kMtrrVariableRanges = 8;
constexpr u32 IA32_MTRR_FIX64K_00000 = 0x250, IA32_MTRR_FIX16K_80000 = 0x258, IA32_MTRR_FIX16K_A0000 = 0x259;
constexpr u32 IA32_MTRR_FIX4K_C0000 = 0x268, IA32_MTRR_FIX4K_F8000 = 0x26F; // and the six between
constexpr u32 IA32_PAT = 0x277;
constexpr u32 IA32_MC0_CTL2 = 0x280;
constexpr u32 IA32_MTRR_DEF_TYPE = 0x2FF;
constexpr u32 IA32_FIXED_CTR0 = 0x309, IA32_FIXED_CTR1 = 0x30A, IA32_FIXED_CTR2 = 0x30B;
constexpr u32 IA32_PERF_CAPABILITIES = 0x345;
constexpr u32 IA32_FIXED_CTR_CTRL = 0x38D;
constexpr u32 IA32_PERF_GLOBAL_STATUS = 0x38E, IA32_PERF_GLOBAL_CTRL = 0x38F, IA32_PERF_GLOBAL_OVF_CTRL = 0x390;
constexpr u32 MSR_UNC_PERF_GLOBAL_CTRL = 0x391;
constexpr u32 IA32_PEBS_ENABLE = 0x3F1, MSR_PEBS_LD_LAT = 0x3F6;
constexpr u32 MSR_PKG_C3_RESIDENCY = 0x3F8, MSR_PKG_C6_RESIDENCY = 0x3F9;
constexpr u32 IA32_MC0_CTL = 0x400, IA32_MC0_STATUS = 0x401, IA32_MC0_ADDR = 0x402,
              IA32_MC0_MISC = 0x403; // banks, four apart

constexpr u32 IA32_VMX_BASIC = 0x480, IA32_VMX_PINBASED_CTLS = 0x481, IA32_VMX_PROCBASED_CTLS = 0x482;
constexpr u32 IA32_VMX_EXIT_CTLS = 0x483, IA32_VMX_ENTRY_CTLS = 0x484, IA32_VMX_MISC = 0x485;
constexpr u32 IA32_VMX_CR0_FIXED0 = 0x486, IA32_VMX_CR0_FIXED1 = 0x487;
constexpr u32 IA32_VMX_CR4_FIXED0 = 0x488, IA32_VMX_CR4_FIXED1 = 0x489;
constexpr u32 IA32_VMX_VMCS_ENUM = 0x48A, IA32_VMX_PROCBASED_CTLS2 = 0x48B, IA32_VMX_EPT_VPID_CAP = 0x48C;
constexpr u32 IA32_VMX_TRUE_PINBASED_CTLS = 0x48D, IA32_VMX_TRUE_PROCBASED_CTLS = 0x48E;
constexpr u32 IA32_VMX_TRUE_EXIT_CTLS = 0x48F, IA32_VMX_TRUE_ENTRY_CTLS = 0x490;
constexpr u32 IA32_VMX_VMFUNC = 0x491, IA32_VMX_PROCBASED_CTLS3 = 0x492, IA32_VMX_EXIT_CTLS2 = 0x493;

constexpr u32 IA32_A_PMC0 = 0x4C1;
constexpr u32 IA32_RTIT_CTL = 0x570, IA32_RTIT_STATUS = 0x571;
constexpr u32 IA32_DS_AREA = 0x600;
constexpr u32 MSR_RAPL_POWER_UNIT = 0x606, MSR_PKG_POWER_LIMIT = 0x610, MSR_PKG_ENERGY_STATUS = 0x611,
              MSR_PKG_POWER_INFO = 0x614;
constexpr u32 MSR_DRAM_ENERGY_STATUS = 0x619, MSR_PP0_ENERGY_STATUS = 0x639, MSR_PP1_ENERGY_STATUS = 0x641;
constexpr u32 IA32_U_CET = 0x6A0, IA32_S_CET = 0x6A2, IA32_PL0_SSP = 0x6A4, IA32_PL3_SSP = 0x6A7;
constexpr u32 IA32_INTERRUPT_SSP_TABLE_ADDR = 0x6A8;
constexpr u32 IA32_TSC_DEADLINE = 0x6E0;
constexpr u32 IA32_PKRS = 0x6E1;
constexpr u32 IA32_PM_ENABLE = 0x770, IA32_HWP_CAPABILITIES = 0x771, IA32_HWP_REQUEST = 0x774;

// x2APIC: register at offset 16 n is MSR 800h + n (SDM 3A table 11-6).
constexpr u32 IA32_X2APIC_APICID = 0x802, IA32_X2APIC_VERSION = 0x803, IA32_X2APIC_TPR = 0x808, IA32_X2APIC_PPR = 0x80A;
constexpr u32 IA32_X2APIC_EOI = 0x80B, IA32_X2APIC_LDR = 0x80D, IA32_X2APIC_SIVR = 0x80F;
constexpr u32 IA32_X2APIC_ISR0 = 0x810, IA32_X2APIC_TMR0 = 0x818, IA32_X2APIC_IRR0 = 0x820, IA32_X2APIC_ESR = 0x828;
constexpr u32 IA32_X2APIC_LVT_CMCI = 0x82F, IA32_X2APIC_ICR = 0x830, IA32_X2APIC_LVT_TIMER = 0x832;
constexpr u32 IA32_X2APIC_LVT_THERMAL = 0x833, IA32_X2APIC_LVT_PMI = 0x834, IA32_X2APIC_LVT_LINT0 = 0x835;
constexpr u32 IA32_X2APIC_LVT_LINT1 = 0x836, IA32_X2APIC_LVT_ERROR = 0x837, IA32_X2APIC_INIT_COUNT = 0x838;
constexpr u32 IA32_X2APIC_CUR_COUNT = 0x839, IA32_X2APIC_DIV_CONF = 0x83E, IA32_X2APIC_SELF_IPI = 0x83F;

constexpr u32 IA32_XSS = 0xDA0;

constexpr u32 IA32_EFER = 0xC000'0080;
constexpr u32 IA32_STAR = 0xC000'0081, IA32_LSTAR = 0xC000'0082, IA32_CSTAR = 0xC000'0083, IA32_FMASK = 0xC000'0084;
constexpr u32 IA32_FS_BASE = 0xC000'0100, IA32_GS_BASE = 0xC000'0101, IA32_KERNEL_GS_BASE = 0xC000'0102;
constexpr u32 IA32_TSC_AUX = 0xC000'0103;

// Values that follow from the CPU models.

// IA32_ARCH_CAPABILITIES of every model: none of the flaws that guests spend time to work around (SDM 4 table 2-2).
enum class ArchCapability : u8 {
  RDCL_NO = 0,
  IBRS_ALL = 1,
  SKIP_L1DFL_VMENTRY = 3,
  SSB_NO = 4,
  MDS_NO = 5,
  IF_PSCHANGE_MC_NO = 6,
  TAA_NO = 8,
  SBDR_SSDP_NO = 13,
  FBSDP_NO = 14,
  PSDP_NO = 15,
  BHI_NO = 20,
  PBRSB_NO = 24,
  GDS_NO = 26,
  RFDS_NO = 27,
};
constexpr u64 kArchCapabilities = [] {
  using enum ArchCapability;
  u64 value = 0;
  for (const auto bit : {RDCL_NO, IBRS_ALL, SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO, IF_PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO,
                         FBSDP_NO, PSDP_NO, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO})
    value |= 1ull << static_cast<u8>(bit);
  return value;
}();

// IA32_BIOS_SIGN_ID of every model: later than each revision that kernels hold for broken (their TSC deadline,
// speculation control).
constexpr u64 kMicrocodeRevision = 0x0100'0000;
constexpr u64 kBiosSignId = kMicrocodeRevision << 32;

constexpr u64 kPatAtReset = 0x0007'0406'0007'0406; // SDM 3A table 12-12
constexpr u64 kApicBaseAddress = 0xFEE0'0000;
namespace apic_base {
constexpr u64 BSP = 1 << 8, EXTD = 1 << 10, EN = 1 << 11;
}
namespace feature_control {
constexpr u64 LOCK = 1 << 0, VMX_OUTSIDE_SMX = 1 << 2;
}
namespace misc_enable {
constexpr u64 FAST_STRING = 1 << 0, BTS_UNAVAILABLE = 1 << 11, PEBS_UNAVAILABLE = 1 << 12, MWAIT = 1 << 18;
}

} // namespace abyme::x86::msr
