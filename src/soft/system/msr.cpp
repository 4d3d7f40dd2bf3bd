#include "x86/msr.hpp"
#include "soft/apic/local_apic.hpp"
#include "soft/mmu/access.hpp"
#include "soft/system/descriptor.hpp"
#include "soft/system/mtrr.hpp"
#include "soft/system/system.hpp"
#include "soft/vmx/vmx.hpp"
#include <algorithm>
#include <iterator>

// Model-specific registers (SDM 4): one row each. A register without a row, or that the CPU model lacks, is #GP(0).
namespace abyme::soft::system {

using namespace x86;

namespace {

using Read = bool (*)(const Cpu &, u32 msr, u64 &value);
using Write = bool (*)(Cpu &, u32 msr, u64 value);

// --- registers that keep what is written ---

template <auto Member> bool stored(const Cpu &cpu, u32, u64 &value) {
  value = cpu.msr.*Member;
  return true;
}
template <auto Member, u64 Reserved = 0> bool store(Cpu &cpu, u32, u64 value) {
  if (value & Reserved) return false;
  cpu.msr.*Member = value;
  return true;
}
template <auto Member> bool store_address(Cpu &cpu, u32, u64 value) {
  if (!canonical(cpu, value)) return false;
  cpu.msr.*Member = value;
  return true;
}

// --- constants ---

template <u64 Value> bool constant(const Cpu &, u32, u64 &value) {
  value = Value;
  return true;
}
bool ignored(Cpu &, u32, u64) { return true; }
bool read_only(Cpu &, u32, u64) { return false; }
bool write_only(const Cpu &, u32, u64 &) { return false; }

// --- rows that a feature brings ---

template <Feature F, Read Then> bool read_if(const Cpu &cpu, u32 msr, u64 &value) {
  return cpu.profile->has(F) && Then(cpu, msr, value);
}
template <Feature F, Write Then> bool write_if(Cpu &cpu, u32 msr, u64 value) {
  return cpu.profile->has(F) && Then(cpu, msr, value);
}

// --- time ---

void move_tsc(Cpu &cpu, u64 by) {
  cpu.tsc_offset = static_cast<i64>(static_cast<u64>(cpu.tsc_offset) + by);
  cpu.tsc_adjust += by;
  cpu.apic->tsc_changed();
}
bool read_tsc(const Cpu &cpu, u32, u64 &value) {
  value = tsc(cpu);
  return true;
}
// A write shows in IA32_TSC_ADJUST, and the other way round (SDM 3B §18.17.3).
bool write_tsc(Cpu &cpu, u32, u64 value) {
  move_tsc(cpu, value - tsc(cpu));
  return true;
}
bool read_tsc_adjust(const Cpu &cpu, u32, u64 &value) {
  value = cpu.tsc_adjust;
  return true;
}
bool write_tsc_adjust(Cpu &cpu, u32, u64 value) {
  move_tsc(cpu, value - cpu.tsc_adjust);
  return true;
}
bool read_tsc_deadline(const Cpu &cpu, u32, u64 &value) {
  value = cpu.apic->tsc_deadline();
  return true;
}
bool write_tsc_deadline(Cpu &cpu, u32, u64 value) {
  cpu.apic->set_tsc_deadline(value);
  return true;
}
bool read_tsc_aux(const Cpu &cpu, u32, u64 &value) {
  value = cpu.msr.tsc_aux;
  return cpu.profile->has(Feature::rdtscp) || cpu.profile->has(Feature::rdpid);
}
bool write_tsc_aux(Cpu &cpu, u32, u64 value) {
  u64 unused;
  if (value >> 32 || !read_tsc_aux(cpu, 0, unused)) return false;
  cpu.msr.tsc_aux = value;
  return true;
}

// --- the local APIC ---

bool read_apic_base(const Cpu &cpu, u32, u64 &value) {
  value = cpu.apic->apic_base();
  return true;
}
bool write_apic_base(Cpu &cpu, u32, u64 value) {
  if (!cpu.apic->set_apic_base(value)) return false;
  mmu::flush_all(cpu); // the page that the APIC answers at may have moved
  return true;
}
bool read_x2apic(const Cpu &cpu, u32 msr, u64 &value) {
  std::optional<u64> read = cpu.apic->msr_read(msr);
  value = read.value_or(0);
  return read.has_value();
}
bool write_x2apic(Cpu &cpu, u32 msr, u64 value) { return cpu.apic->msr_write(msr, value); }

// --- what this CPU is ---

// Bits 15:8: the ratio of the TSC to the 100 MHz bus clock.
bool read_platform_info(const Cpu &cpu, u32, u64 &value) {
  value = std::min<u64>(cpu.profile->tsc_hz / 100'000'000, 0xFF) << 8;
  return true;
}
bool read_capability(const Cpu &cpu, u32 msr, u64 &value) { return vmx::capability_msr(cpu, msr, value); }
bool write_feature_control(Cpu &cpu, u32, u64 value) {
  if (!cpu.profile->has(Feature::vmx) || cpu.msr.feature_control & msr::feature_control::LOCK ||
      value & ~(msr::feature_control::LOCK | msr::feature_control::VMX_OUTSIDE_SMX))
    return false;
  cpu.msr.feature_control = value;
  return true;
}
bool write_misc_enable(Cpu &cpu, u32, u64 value) {
  // What SDM 4 table 2-2 defines; of it, what can be changed here.
  constexpr u64 kDefined = 0x44'00C5'1889;
  u64 writable = msr::misc_enable::FAST_STRING | (cpu.profile->has(Feature::monitor) ? msr::misc_enable::MWAIT : 0);
  if (value & ~kDefined) return false;
  cpu.msr.misc_enable = (cpu.msr.misc_enable & ~writable) | (value & writable);
  return true;
}

bool write_prediction_barrier(Cpu &, u32, u64 value) { return !(value & ~1ull); } // IBPB

// --- segments, paging, system calls ---

bool read_efer(const Cpu &cpu, u32, u64 &value) {
  value = cpu.efer;
  return cpu.profile->has(Feature::nx) || cpu.profile->has(Feature::lm);
}
bool write_efer_msr(Cpu &cpu, u32, u64 value) { return write_efer(cpu, value); }

template <Seg S> bool read_base(const Cpu &cpu, u32, u64 &value) {
  value = cpu.segments[S].base;
  return cpu.profile->has(Feature::lm);
}
template <Seg S> bool write_base(Cpu &cpu, u32, u64 value) {
  if (!cpu.profile->has(Feature::lm) || !canonical(cpu, value)) return false;
  cpu.segments[S].base = value;
  mode_changed(cpu);
  return true;
}
bool write_xss(Cpu &cpu, u32, u64 value) {
  CpuidLeaf supervisor = cpu.profile->lookup(0xD, 1);
  u64 supported = static_cast<u64>(supervisor.edx) << 32 | supervisor.ecx;
  if (value & ~supported) return false;
  cpu.msr.xss = value;
  return true;
}

struct Row {
  u32 first, last;
  Read read;
  Write write;
};

using F = Feature;
constexpr u64 kHigh = ~0ull << 32;
constexpr u64 kSpecCtrlReserved = ~3ull; // IBRS, STIBP
constexpr u64 kDebugctlReserved = ~3ull; // LBR, BTF

// Sorted by number.
constexpr Row kRows[] = {
    {msr::IA32_P5_MC_ADDR, msr::IA32_P5_MC_TYPE, read_if<F::mce, constant<0>>, write_if<F::mce, ignored>},
    {msr::IA32_TIME_STAMP_COUNTER, msr::IA32_TIME_STAMP_COUNTER, read_tsc, write_tsc},
    {msr::IA32_PLATFORM_ID, msr::IA32_PLATFORM_ID, constant<0>, read_only},
    {msr::IA32_APIC_BASE, msr::IA32_APIC_BASE, read_if<F::apic, read_apic_base>, write_if<F::apic, write_apic_base>},
    {msr::EBL_CR_POWERON, msr::EBL_CR_POWERON, constant<0>, ignored},
    {msr::SMI_COUNT, msr::SMI_COUNT, constant<0>, read_only},
    {msr::IA32_FEATURE_CONTROL, msr::IA32_FEATURE_CONTROL, read_if<F::vmx, read_capability>, write_feature_control},
    {msr::IA32_TSC_ADJUST, msr::IA32_TSC_ADJUST, read_if<F::tsc_adjust, read_tsc_adjust>,
     write_if<F::tsc_adjust, write_tsc_adjust>},
    {msr::IA32_SPEC_CTRL, msr::IA32_SPEC_CTRL, read_if<F::spec_ctrl, stored<&Msrs::spec_ctrl>>,
     write_if<F::spec_ctrl, store<&Msrs::spec_ctrl, kSpecCtrlReserved>>},
    {msr::IA32_PRED_CMD, msr::IA32_PRED_CMD, write_only, write_if<F::spec_ctrl, write_prediction_barrier>},
    {msr::IA32_BIOS_UPDT_TRIG, msr::IA32_BIOS_UPDT_TRIG, write_only, ignored},
    {msr::IA32_BIOS_SIGN_ID, msr::IA32_BIOS_SIGN_ID, constant<msr::kBiosSignId>, ignored},
    {msr::MSR_PLATFORM_INFO, msr::MSR_PLATFORM_INFO, read_platform_info, read_only},
    {msr::IA32_MTRRCAP, msr::IA32_MTRRCAP, read_if<F::mtrr, constant<kMtrrCap>>, read_only},
    {msr::IA32_ARCH_CAPABILITIES, msr::IA32_ARCH_CAPABILITIES,
     read_if<F::arch_capabilities, constant<msr::kArchCapabilities>>, read_only},
    {msr::IA32_SYSENTER_CS, msr::IA32_SYSENTER_CS, read_if<F::sep, stored<&Msrs::sysenter_cs>>,
     write_if<F::sep, store<&Msrs::sysenter_cs>>},
    {msr::IA32_SYSENTER_ESP, msr::IA32_SYSENTER_ESP, read_if<F::sep, stored<&Msrs::sysenter_esp>>,
     write_if<F::sep, store_address<&Msrs::sysenter_esp>>},
    {msr::IA32_SYSENTER_EIP, msr::IA32_SYSENTER_EIP, read_if<F::sep, stored<&Msrs::sysenter_eip>>,
     write_if<F::sep, store_address<&Msrs::sysenter_eip>>},
    {msr::IA32_MCG_CAP, msr::IA32_MCG_CAP, read_if<F::mca, constant<0>>, read_only},
    {msr::IA32_MCG_STATUS, msr::IA32_MCG_STATUS, read_if<F::mca, stored<&Msrs::mcg_status>>,
     write_if<F::mca, store<&Msrs::mcg_status, ~7ull>>},
    {msr::IA32_MISC_ENABLE, msr::IA32_MISC_ENABLE, stored<&Msrs::misc_enable>, write_misc_enable},
    {msr::IA32_DEBUGCTL, msr::IA32_DEBUGCTL, stored<&Msrs::debugctl>, store<&Msrs::debugctl, kDebugctlReserved>},
    {msr::MSR_LASTBRANCHFROMIP, msr::MSR_LASTINTTOIP, constant<0>, read_only},
    {msr::IA32_MTRR_PHYSBASE0, msr::IA32_MTRR_PHYSBASE0 + 2 * msr::kMtrrVariableRanges - 1,
     read_if<F::mtrr, read_mtrr_variable>, write_if<F::mtrr, write_mtrr_variable>},
    {msr::IA32_MTRR_FIX64K_00000, msr::IA32_MTRR_FIX64K_00000, read_if<F::mtrr, read_mtrr_fixed>,
     write_if<F::mtrr, write_mtrr_fixed>},
    {msr::IA32_MTRR_FIX16K_80000, msr::IA32_MTRR_FIX16K_A0000, read_if<F::mtrr, read_mtrr_fixed>,
     write_if<F::mtrr, write_mtrr_fixed>},
    {msr::IA32_MTRR_FIX4K_C0000, msr::IA32_MTRR_FIX4K_F8000, read_if<F::mtrr, read_mtrr_fixed>,
     write_if<F::mtrr, write_mtrr_fixed>},
    {msr::IA32_PAT, msr::IA32_PAT, read_if<F::pat, stored<&Msrs::pat>>, write_if<F::pat, write_pat>},
    {msr::IA32_MTRR_DEF_TYPE, msr::IA32_MTRR_DEF_TYPE, read_if<F::mtrr, stored<&Msrs::mtrr_def_type>>,
     write_if<F::mtrr, write_mtrr_def_type>},
    {msr::IA32_VMX_BASIC, msr::IA32_VMX_EXIT_CTLS2, read_if<F::vmx, read_capability>, read_only},
    {msr::IA32_TSC_DEADLINE, msr::IA32_TSC_DEADLINE, read_if<F::tsc_deadline_timer, read_tsc_deadline>,
     write_if<F::tsc_deadline_timer, write_tsc_deadline>},
    {apic::kMsrBase, apic::kMsrLast, read_if<F::x2apic, read_x2apic>, write_if<F::x2apic, write_x2apic>},
    {msr::IA32_XSS, msr::IA32_XSS, read_if<F::xsaves, stored<&Msrs::xss>>, write_if<F::xsaves, write_xss>},
    {msr::IA32_EFER, msr::IA32_EFER, read_efer, write_efer_msr},
    {msr::IA32_STAR, msr::IA32_STAR, read_if<F::syscall, stored<&Msrs::star>>,
     write_if<F::syscall, store<&Msrs::star>>},
    {msr::IA32_LSTAR, msr::IA32_LSTAR, read_if<F::lm, stored<&Msrs::lstar>>,
     write_if<F::lm, store_address<&Msrs::lstar>>},
    {msr::IA32_CSTAR, msr::IA32_CSTAR, read_if<F::lm, stored<&Msrs::cstar>>,
     write_if<F::lm, store_address<&Msrs::cstar>>},
    {msr::IA32_FMASK, msr::IA32_FMASK, read_if<F::lm, stored<&Msrs::sfmask>>,
     write_if<F::lm, store<&Msrs::sfmask, kHigh>>},
    {msr::IA32_FS_BASE, msr::IA32_FS_BASE, read_base<FS>, write_base<FS>},
    {msr::IA32_GS_BASE, msr::IA32_GS_BASE, read_base<GS>, write_base<GS>},
    {msr::IA32_KERNEL_GS_BASE, msr::IA32_KERNEL_GS_BASE, read_if<F::lm, stored<&Msrs::kernel_gs_base>>,
     write_if<F::lm, store_address<&Msrs::kernel_gs_base>>},
    {msr::IA32_TSC_AUX, msr::IA32_TSC_AUX, read_tsc_aux, write_tsc_aux},
};
static_assert(std::ranges::is_sorted(kRows, {}, &Row::first));

const Row *find(u32 msr) {
  const Row *row = std::ranges::lower_bound(kRows, msr, {}, &Row::last);
  return row != std::end(kRows) && row->first <= msr ? row : nullptr;
}

} // namespace

bool read_msr(Cpu &cpu, u32 msr, u64 &value) {
  const Row *row = find(msr);
  return row && row->read(cpu, msr, value);
}

bool write_msr(Cpu &cpu, u32 msr, u64 value) {
  const Row *row = find(msr);
  return row && row->write(cpu, msr, value);
}

} // namespace abyme::soft::system
