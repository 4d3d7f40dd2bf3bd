// The guest-state area: SDM 3C §28.3 (saved by VM exits) and §27.3.2 (loaded by VM entries).
#include "soft/vmx/guest_state.hpp"
#include "soft/mmu/access.hpp"

namespace abyme::soft::vmx {
namespace {

using namespace x86;

// --- saving ---

// SDM 3C §28.3.1
void save_control_registers(const Cpu &cpu, Vmcs &vmcs) {
  const Controls &controls = cpu.vmx->controls;
  vmcs[Field::GuestCr0] = cpu.cr0;
  vmcs[Field::GuestCr3] = cpu.cr3;
  vmcs[Field::GuestCr4] = cpu.cr4;
  vmcs[Field::GuestSysenterCs] = static_cast<u32>(cpu.msr.sysenter_cs);
  vmcs[Field::GuestSysenterEsp] = cpu.msr.sysenter_esp;
  vmcs[Field::GuestSysenterEip] = cpu.msr.sysenter_eip;
  if (controls.exit & exit_control::SaveDebugControls) {
    vmcs[Field::GuestDr7] = cpu.dr7;
    vmcs[Field::GuestDebugctl] = cpu.msr.debugctl;
  }
  if (controls.exit & exit_control::SavePat) vmcs[Field::GuestPat] = cpu.msr.pat;
  if (controls.exit & exit_control::SaveEfer) vmcs[Field::GuestEfer] = cpu.efer;
  // SDM 3D §A.6, bit 5
  u64 &entry = vmcs[Field::EntryControls];
  entry = cpu.long_mode() ? entry | entry_control::Ia32eModeGuest : entry & ~u64{entry_control::Ia32eModeGuest};
}

void save_segment(Vmcs &vmcs, unsigned n, const Segment &s) {
  vmcs[nth(Field::GuestEsSelector, n)] = s.selector;
  vmcs[nth(Field::GuestEsBase, n)] = s.base;
  vmcs[nth(Field::GuestEsLimit, n)] = s.limit;
  vmcs[nth(Field::GuestEsRights, n)] = s.rights;
}

// SDM 3C §28.3.2
void save_segments(const Cpu &cpu, Vmcs &vmcs) {
  constexpr u64 kDpl = 3 << 5;
  for (unsigned n = 0; n < kSegments; n++) save_segment(vmcs, n, cpu.segments[n]);
  save_segment(vmcs, kLdtr, cpu.ldtr);
  save_segment(vmcs, kTr, cpu.tr);
  // SS.DPL is the CPL, whatever a null or real-mode SS has.
  u64 &ss = vmcs[Field::GuestSsRights];
  ss = (ss & ~kDpl) | static_cast<u64>(cpu.cpl) << 5;
  vmcs[Field::GuestGdtrBase] = cpu.gdtr.base;
  vmcs[Field::GuestGdtrLimit] = cpu.gdtr.limit;
  vmcs[Field::GuestIdtrBase] = cpu.idtr.base;
  vmcs[Field::GuestIdtrLimit] = cpu.idtr.limit;
}

// SDM 3C §28.3.3
void save_rip_rsp_rflags(const Cpu &cpu, Vmcs &vmcs, SavedRf rf) {
  u64 flags = rflags(cpu);
  if (rf == SavedRf::Clear) flags &= ~rflags::RF;
  if (rf == SavedRf::Set) flags |= rflags::RF;
  vmcs[Field::GuestRip] = cpu.code64() ? cpu.rip : static_cast<u32>(cpu.rip);
  vmcs[Field::GuestRsp] = cpu.gpr[RSP];
  vmcs[Field::GuestRflags] = flags;
}

[[nodiscard]] u64 pending_debug_field(const Cpu &cpu) {
  using namespace pending_debug;
  if (cpu.delivering) return 0;
  const u64 met = cpu.pending_debug & (kBreakpoints | kSingleStep);
  return met | (met & kBreakpoints ? kEnabled : 0);
}

[[nodiscard]] bool uses_pae(const Cpu &cpu) { return (cpu.cr0 & cr0::PG) && (cpu.cr4 & cr4::PAE) && !cpu.long_mode(); }

// SDM 3C §28.3.4
void save_non_register_state(const Cpu &cpu, Vmcs &vmcs) {
  vmcs[Field::GuestActivity] = static_cast<u64>(cpu.activity);
  vmcs[Field::GuestInterruptibility] = (cpu.shadow & 3) | (cpu.nmi_blocked ? interruptibility::kNmi : 0);
  vmcs[Field::GuestPendingDebug] = pending_debug_field(cpu);
  if (cpu.vmx->controls.exit & exit_control::SavePreemptionTimer)
    vmcs[Field::PreemptionTimer] = preemption_timer_value(cpu);
  if (!cpu.ept_enabled || !uses_pae(cpu)) return;
  for (unsigned n = 0; n < 4; n++) vmcs[nth(Field::GuestPdpte0, n)] = cpu.pdpte[n];
}

// --- loading ---

// SDM 3C §27.3.2.1
void load_control_registers(Cpu &cpu, const Vmcs &vmcs) {
  const Controls &controls = cpu.vmx->controls;
  cpu.cr0 = (vmcs[Field::GuestCr0] & ~kCr0Kept) | (cpu.cr0 & kCr0Kept);
  cpu.cr3 = vmcs[Field::GuestCr3];
  cpu.cr4 = vmcs[Field::GuestCr4];
  cpu.msr.sysenter_cs = vmcs[Field::GuestSysenterCs];
  cpu.msr.sysenter_esp = vmcs[Field::GuestSysenterEsp];
  cpu.msr.sysenter_eip = vmcs[Field::GuestSysenterEip];
  if (controls.entry & entry_control::LoadDebugControls) {
    cpu.dr7 = (vmcs[Field::GuestDr7] & ~u64{0xD800}) | 1 << 10;
    cpu.msr.debugctl = vmcs[Field::GuestDebugctl];
  }
  if (controls.entry & entry_control::LoadPat) cpu.msr.pat = vmcs[Field::GuestPat];
  if (controls.entry & entry_control::LoadEfer) {
    cpu.efer = vmcs[Field::GuestEfer];
    return;
  }
  const u64 lma = controls.entry & entry_control::Ia32eModeGuest ? efer::LMA : 0;
  cpu.efer = (cpu.efer & ~efer::LMA) | lma;
  if (cpu.cr0 & cr0::PG) cpu.efer = (cpu.efer & ~efer::LME) | (lma ? efer::LME : 0);
}

[[nodiscard]] Segment segment_at(const Vmcs &vmcs, unsigned n) {
  return {.base = vmcs[nth(Field::GuestEsBase, n)],
          .limit = vmcs.u32_at(nth(Field::GuestEsLimit, n)),
          .rights = vmcs.u32_at(nth(Field::GuestEsRights, n)),
          .selector = static_cast<u16>(vmcs[nth(Field::GuestEsSelector, n)])};
}

// SDM 3C §27.3.2.2, §27.3.2.3
void load_segments(Cpu &cpu, const Vmcs &vmcs) {
  for (unsigned n = 0; n < kSegments; n++) cpu.segments[n] = segment_at(vmcs, n);
  cpu.ldtr = segment_at(vmcs, kLdtr);
  cpu.tr = segment_at(vmcs, kTr);
  cpu.cpl = static_cast<u8>(cpu.segments[SS].dpl());
  cpu.gdtr = {vmcs[Field::GuestGdtrBase], static_cast<u16>(vmcs[Field::GuestGdtrLimit])};
  cpu.idtr = {vmcs[Field::GuestIdtrBase], static_cast<u16>(vmcs[Field::GuestIdtrLimit])};
}

// SDM 3C §27.3.2.5, §27.7
void load_non_register_state(Cpu &cpu, const Vmcs &vmcs) {
  const u32 state = vmcs.u32_at(Field::GuestInterruptibility);
  cpu.activity = static_cast<Activity>(vmcs[Field::GuestActivity]);
  cpu.shadow = state & 3;
  cpu.vmx->physical_nmi_blocked = cpu.nmi_blocked;
  cpu.nmi_blocked = state & interruptibility::kNmi;
  // Bits 3:0 alone say which breakpoints were met, not that one of them is enabled (SDM 3C table 25-4).
  const u64 pending = vmcs[Field::GuestPendingDebug];
  using namespace pending_debug;
  cpu.pending_debug = pending & (kEnabled | kSingleStep) ? pending & (kBreakpoints | kSingleStep) : 0;
}

// --- address spaces ---

void load_paging(Cpu &cpu, const Vmcs &vmcs) {
  const Controls &controls = cpu.vmx->controls;
  cpu.ept_enabled = controls.secondary & secondary::EnableEpt;
  cpu.ept_mode_based = controls.secondary & secondary::ModeBasedExecute;
  cpu.eptp = cpu.ept_enabled ? vmcs[Field::EptPointer] : 0;
  cpu.vpid = controls.secondary & secondary::EnableVpid ? static_cast<u16>(vmcs[Field::Vpid]) : 0;
  if (!uses_pae(cpu)) return;
  if (cpu.ept_enabled)
    for (unsigned n = 0; n < 4; n++) cpu.pdpte[n] = vmcs[nth(Field::GuestPdpte0, n)];
  else
    for (unsigned n = 0; n < 4; n++) cpu.pdpte[n] = cpu.vmx->checked_pdpte[n];
}

} // namespace

void save_guest_state(Cpu &cpu, SavedRf rf) {
  Vmcs &vmcs = cpu.vmx->vmcs;
  save_control_registers(cpu, vmcs);
  save_segments(cpu, vmcs);
  save_rip_rsp_rflags(cpu, vmcs, rf);
  save_non_register_state(cpu, vmcs);
}

void load_guest_state(Cpu &cpu) {
  const Vmcs &vmcs = cpu.vmx->vmcs;
  load_control_registers(cpu, vmcs);
  load_segments(cpu, vmcs);
  cpu.rip = vmcs[Field::GuestRip];
  cpu.gpr[RSP] = vmcs[Field::GuestRsp];
  set_rflags(cpu, vmcs[Field::GuestRflags]);
  load_non_register_state(cpu, vmcs);
  load_paging(cpu, vmcs);
  cpu.vmx_mode = VmxMode::NonRoot;
  if (!cpu.vpid) mmu::invalidate_vpid(cpu, mmu::InvvpidType::Context, 0, 0);
  mode_changed(cpu);
}

} // namespace abyme::soft::vmx
