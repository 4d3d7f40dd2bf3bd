#include "soft/apic/local_apic.hpp"
#include "soft/hostexec/hostexec.hpp"
#include "soft/mmu/access.hpp"
#include "soft/system/segment_load.hpp"
#include "soft/system/system.hpp"
#include "soft/vmx/vmx.hpp"
#include "x86/msr.hpp"
#include <algorithm>

// The states that RESET, INIT and SIPI leave (SDM 3A §10.1, table 10-1), and the boot protocols' own.
namespace abyme::soft::system {

using namespace x86;

namespace {

constexpr u64 kDr6AtReset = 0xFFFF0FF0, kDr7AtReset = 0x400;

void clear_events(Cpu &cpu) {
  cpu.activity = Activity::Active;
  cpu.shadow = 0;
  cpu.nmi_blocked = cpu.nmi_pending = cpu.interrupt_waiting = cpu.delivering = false;
  cpu.pending_debug = 0;
  cpu.fault.kind = Fault::Kind::None;
}

void reset_msrs(Cpu &cpu) {
  cpu.msr = {};
  cpu.msr.pat = msr::kPatAtReset;
  cpu.msr.misc_enable = msr::misc_enable::FAST_STRING | msr::misc_enable::BTS_UNAVAILABLE |
                        msr::misc_enable::PEBS_UNAVAILABLE |
                        (cpu.profile->has(Feature::monitor) ? msr::misc_enable::MWAIT : 0);
  cpu.msr.bios_sign_id = msr::kBiosSignId;
  // What firmware would have done: VMX is allowed outside of SMX, for good.
  if (cpu.profile->has(Feature::vmx))
    cpu.msr.feature_control = msr::feature_control::LOCK | msr::feature_control::VMX_OUTSIDE_SMX;
  cpu.tsc_adjust = 0;
}

// What RESET and INIT have in common.
void reset_registers(Cpu &cpu) {
  set_state(cpu, reset_state());
  std::ranges::fill(cpu.dr, 0);
  cpu.dr6 = kDr6AtReset;
  cpu.dr7 = kDr7AtReset;
  std::ranges::fill(cpu.pdpte, 0);
  cpu.gpr[RDX] = cpu.profile->lookup(1, 0).eax; // the CPU's signature
  clear_events(cpu);
}

} // namespace

void reset(Cpu &cpu) {
  reset_registers(cpu);
  reset_msrs(cpu);
  cpu.xcr0 = 1;
  vmx::reset(cpu);
  hostexec::reset(cpu);
  cpu.apic->reset();
  mode_changed(cpu);
}

void init(Cpu &cpu) {
  constexpr u64 kKept = cr0::CD | cr0::NW;
  u64 kept = cpu.cr0 & kKept;
  reset_registers(cpu);
  cpu.cr0 = (cpu.cr0 & ~kKept) | kept;
  cpu.apic->init();
  mode_changed(cpu);
}

void start_up(Cpu &cpu, u8 vector) {
  load_real_segment(cpu, CS, static_cast<u16>(vector << 8));
  cpu.rip = 0;
  cpu.activity = Activity::Active;
  mode_changed(cpu);
}

void set_state(Cpu &cpu, const CpuState &state) {
  std::ranges::copy(state.gpr, cpu.gpr);
  std::ranges::copy(state.segments, cpu.segments);
  cpu.rip = state.rip;
  cpu.ldtr = state.ldtr, cpu.tr = state.tr;
  cpu.gdtr = state.gdtr, cpu.idtr = state.idtr;
  cpu.cr0 = state.cr0 | cr0::ET;
  cpu.cr2 = state.cr2, cpu.cr3 = state.cr3, cpu.cr4 = state.cr4;
  constexpr u64 kActive = cr0::PG | cr0::PE;
  bool lma = state.efer & efer::LME && (state.cr0 & kActive) == kActive;
  cpu.efer = lma ? state.efer | efer::LMA : state.efer & ~efer::LMA;
  set_rflags(cpu, state.rflags);
  // The level is SS's DPL, as at VM entry (SDM 3C §27.3.2.2); real mode has 0 and virtual-8086 mode 3.
  cpu.cpl = !cpu.protected_mode() ? 0 : cpu.v86() ? 3 : static_cast<u8>(cpu.segments[SS].dpl());
  cpu.apic->set_cr8(state.cr8 & 15);
  mmu::select_context(cpu);
  mmu::flush_all(cpu);
  mode_changed(cpu);
}

CpuState get_state(const Cpu &cpu) {
  CpuState state;
  std::copy_n(cpu.gpr, kGprs, state.gpr.begin());
  std::copy_n(cpu.segments, kSegments, state.segments.begin());
  state.rip = cpu.rip;
  state.rflags = rflags(cpu);
  state.ldtr = cpu.ldtr, state.tr = cpu.tr;
  state.gdtr = cpu.gdtr, state.idtr = cpu.idtr;
  state.cr0 = cpu.cr0, state.cr2 = cpu.cr2, state.cr3 = cpu.cr3, state.cr4 = cpu.cr4;
  state.cr8 = cpu.apic->cr8();
  state.efer = cpu.efer;
  return state;
}

} // namespace abyme::soft::system
