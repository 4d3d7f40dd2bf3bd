// The host-state area, as VM exits and failed VM entries load it: SDM 3C §28.5.
#include "soft/vmx/host_state.hpp"
#include "soft/mmu/access.hpp"
#include "soft/vmx/guest_state.hpp"

namespace abyme::soft::vmx {
namespace {

using namespace x86;

// SDM 3C §28.5.1
void load_control_registers(Cpu &cpu, const Vmcs &vmcs, bool wide) {
  const u32 controls = vmcs.u32_at(Field::ExitControls);
  cpu.cr0 = (vmcs[Field::HostCr0] & ~kCr0Kept) | (cpu.cr0 & kCr0Kept);
  cpu.cr3 = vmcs[Field::HostCr3];
  cpu.cr4 = wide ? vmcs[Field::HostCr4] | cr4::PAE : vmcs[Field::HostCr4] & ~cr4::PCIDE;
  cpu.dr7 = 1 << 10;
  cpu.msr.debugctl = 0;
  cpu.msr.sysenter_cs = vmcs[Field::HostSysenterCs];
  cpu.msr.sysenter_esp = vmcs[Field::HostSysenterEsp];
  cpu.msr.sysenter_eip = vmcs[Field::HostSysenterEip];
  if (controls & exit_control::LoadPat) cpu.msr.pat = vmcs[Field::HostPat];
  if (controls & exit_control::LoadEfer) cpu.efer = vmcs[Field::HostEfer];
  cpu.efer &= ~(efer::LMA | efer::LME);
  if (wide) cpu.efer |= efer::LMA | efer::LME;
}

constexpr u32 kData = 3 | Segment::kSystemBit | Segment::kPresent | Segment::kBig | Segment::kGranularity;
constexpr u32 kCode = 11 | Segment::kSystemBit | Segment::kPresent | Segment::kGranularity;
constexpr u32 kBusyTss = 11 | Segment::kPresent;

[[nodiscard]] Segment data_segment(u64 selector, u64 base) {
  return {.base = base,
          .limit = ~0u,
          .rights = selector ? kData : kData | Segment::kUnusable,
          .selector = static_cast<u16>(selector)};
}

// SDM 3C §28.5.2
void load_segments(Cpu &cpu, const Vmcs &vmcs, bool wide) {
  const u32 mode = wide ? Segment::kLong : Segment::kBig;
  cpu.segments[CS] = {
      .base = 0, .limit = ~0u, .rights = kCode | mode, .selector = static_cast<u16>(vmcs[Field::HostCsSelector])};
  cpu.segments[SS] = data_segment(vmcs[Field::HostSsSelector], 0);
  cpu.segments[DS] = data_segment(vmcs[Field::HostDsSelector], 0);
  cpu.segments[ES] = data_segment(vmcs[Field::HostEsSelector], 0);
  cpu.segments[FS] = data_segment(vmcs[Field::HostFsSelector], vmcs[Field::HostFsBase]);
  cpu.segments[GS] = data_segment(vmcs[Field::HostGsSelector], vmcs[Field::HostGsBase]);
  cpu.tr = {.base = vmcs[Field::HostTrBase],
            .limit = 0x67,
            .rights = kBusyTss,
            .selector = static_cast<u16>(vmcs[Field::HostTrSelector])};
  cpu.ldtr = {.rights = Segment::kUnusable};
  cpu.gdtr = {vmcs[Field::HostGdtrBase], 0xFFFF};
  cpu.idtr = {vmcs[Field::HostIdtrBase], 0xFFFF};
  cpu.cpl = 0;
}

// SDM 3C §28.5.3, §28.5.5. With virtual NMIs, what cpu.nmi_blocked held was the guest's virtual blocking.
void load_rip_rsp_rflags_and_blocking(Cpu &cpu, const Vmcs &vmcs) {
  cpu.rip = vmcs[Field::HostRip];
  cpu.gpr[RSP] = vmcs[Field::HostRsp];
  set_rflags(cpu, rflags::kFixed);
  cpu.activity = Activity::Active;
  cpu.shadow = 0;
  cpu.pending_debug = 0;
  cpu.delivering = false;
  if (pin_on(cpu, pin::VirtualNmis)) cpu.nmi_blocked = cpu.vmx->physical_nmi_blocked;
}

void leave_non_root(Cpu &cpu) {
  Vmx &vmx = *cpu.vmx;
  const bool tagged = cpu.vpid != 0;
  cpu.vmx_mode = VmxMode::Root;
  cpu.ept_enabled = cpu.ept_mode_based = false;
  cpu.eptp = 0;
  cpu.vpid = 0;
  vmx.controls = {};
  vmx.monitor_trap = vmx.apic_write_pending = false;
  vmx.preemption_deadline = kNever;
  if (!tagged) mmu::invalidate_vpid(cpu, mmu::InvvpidType::Context, 0, 0);
}

} // namespace

bool load_host_state(Cpu &cpu) {
  const Vmcs &vmcs = cpu.vmx->vmcs;
  const bool wide = vmcs.u32_at(Field::ExitControls) & exit_control::HostAddressSpaceSize;
  load_control_registers(cpu, vmcs, wide);
  load_segments(cpu, vmcs, wide);
  load_rip_rsp_rflags_and_blocking(cpu, vmcs);
  leave_non_root(cpu);
  mode_changed(cpu);
  const bool pae = !wide && (cpu.cr4 & cr4::PAE);
  return !pae || mmu::load_pdptes(cpu, cpu.cr3, cpu.pdpte);
}

} // namespace abyme::soft::vmx
