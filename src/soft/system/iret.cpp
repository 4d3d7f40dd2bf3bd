#include "soft/mmu/access.hpp"
#include "soft/system/far_return.hpp"
#include "soft/system/flags.hpp"
#include "soft/system/instructions.hpp"
#include "soft/system/segment_load.hpp"
#include "soft/system/task_switch.hpp"
#include "soft/system/tss.hpp"
#include "soft/vmx/vmx.hpp"

// IRET (SDM 2A IRET).
namespace abyme::soft::system {

using namespace x86;

namespace {

struct Popped {
  u64 rip, flags;
  u16 cs;
};

bool pop_three(Popper &stack, Popped &p) { return stack.pop(p.rip) && stack.pop_selector(p.cs) && stack.pop(p.flags); }

void land_16(Cpu &cpu, Popper &stack, const Popped &p) {
  stack.commit();
  cpu.v86() ? load_v86_segment(cpu, CS, p.cs) : load_real_segment(cpu, CS, p.cs);
  cpu.rip = p.rip;
  mode_changed(cpu);
}

u64 wide_flags(const Op &op) { return op.size == 2 ? 0 : kFreeFlags32 | rflags::RF; }

bool iret_real(Cpu &cpu, const Op &op) {
  Popper stack(cpu, op.size);
  Popped p;
  if (!pop_three(stack, p)) return false;
  if (p.rip > cpu.segments[CS].limit) return fail(cpu, GP, 0);
  land_16(cpu, stack, p);
  write_flags(cpu, p.flags, kFreeFlags | wide_flags(op) | rflags::IF | rflags::IOPL);
  return true;
}

// IOPL 3 returns as real mode does, but IOPL stays; below it only a 16-bit IRET with VME exists, and IF means VIF (SDM
// 3B §21.3).
bool iret_v86(Cpu &cpu, const Op &op) {
  bool vme = cpu.iopl() < 3;
  if (vme && (op.size != 2 || !virtual_interrupt_flag(cpu))) return fail(cpu, GP, 0);
  Popper stack(cpu, op.size);
  Popped p;
  if (!pop_three(stack, p)) return false;
  if (p.rip > cpu.segments[CS].limit) return fail(cpu, GP, 0);
  if (vme && (p.flags & rflags::TF || (p.flags & rflags::IF && rflags(cpu) & rflags::VIP))) return fail(cpu, GP, 0);
  land_16(cpu, stack, p);
  if (vme)
    write_flags(cpu, (p.flags & ~rflags::VIF) | (p.flags & rflags::IF ? rflags::VIF : 0), kFreeFlags | rflags::VIF);
  else
    write_flags(cpu, p.flags, kFreeFlags | wide_flags(op) | rflags::IF);
  return true;
}

bool iret_to_v86(Cpu &cpu, Popper &stack, const Popped &p) {
  u64 esp;
  u16 selectors[5]; // SS, ES, DS, FS, GS
  if (!stack.pop(esp)) return false;
  for (u16 &selector : selectors)
    if (!stack.pop_selector(selector)) return false;
  if (p.rip > 0xFFFF) return fail(cpu, GP, 0);
  cpu.cpl = 3;
  load_v86_segment(cpu, CS, p.cs);
  constexpr u8 kOrder[5] = {SS, ES, DS, FS, GS};
  for (unsigned i = 0; i < 5; i++) load_v86_segment(cpu, kOrder[i], selectors[i]);
  cpu.gpr[RSP] = esp;
  cpu.rip = p.rip;
  write_flags(cpu, p.flags, ~0ull);
  mode_changed(cpu);
  return true;
}

// Which bits the level that returns may change.
u64 return_flags_mask(const Cpu &cpu, const Op &op) {
  u64 mask = kFreeFlags | wide_flags(op);
  if (cpu.cpl <= cpu.iopl()) mask |= rflags::IF;
  if (cpu.cpl == 0) mask |= rflags::IOPL | (op.size == 2 ? 0 : rflags::VIF | rflags::VIP);
  return mask;
}

// CR4.PVI does for CPL 3 what VME does for virtual-8086 mode only with CLI and STI: IRET has nothing of it (SDM 3B
// §21.4).
bool iret_protected(Cpu &cpu, const Op &op) {
  Popper stack(cpu, op.size);
  Popped p;
  if (!pop_three(stack, p)) return false;
  if (!cpu.long_mode() && op.size != 2 && p.flags & rflags::VM && cpu.cpl == 0) return iret_to_v86(cpu, stack, p);
  Return to{.rip = p.rip, .cs = p.cs, .ss = 0, .rsp = 0, .code = {}, .stack = {}};
  bool with_stack = cpu.code64() || (p.cs & 3) > cpu.cpl;
  if (!read_return_code(cpu, to)) return false;
  if (with_stack) {
    if (!stack.pop(to.rsp) || !stack.pop_selector(to.ss) || !read_return_stack(cpu, to)) return false;
  } else {
    to.rsp = stack.sp();
  }
  if (!check_return_rip(cpu, to)) return false;
  u64 mask = return_flags_mask(cpu, op);
  commit_return(cpu, to, with_stack);
  write_flags(cpu, p.flags, mask);
  return true;
}

bool iret_task(Cpu &cpu, const Op &op) {
  u16 link;
  bool inside;
  if (!read_tss(cpu, 0, &link, 2, inside)) return false;
  if (!inside) return fail(cpu, TS, selector_error(cpu.tr.selector));
  return switch_task(cpu, {.selector = link,
                           .source = TaskSource::Iret,
                           .return_rip = cpu.next_rip,
                           .ext = 0,
                           .push_error = false,
                           .error = 0,
                           .op = &op});
}

// NMIs are unblocked even when the IRET then faults (SDM 3A §6.7.1).
void unblock_nmis(Cpu &cpu) {
  if (cpu.vmx_mode == VmxMode::NonRoot) {
    vmx::on_iret(cpu);
    return;
  }
  if (cpu.nmi_blocked) cpu.need(cpu.nmi_pending ? kAttentionEvents | kAttentionNmi : +kAttentionEvents);
  cpu.nmi_blocked = false;
}

} // namespace

Outcome iret(Cpu &cpu, const Op &op) {
  unblock_nmis(cpu);
  if (!cpu.protected_mode()) return outcome(iret_real(cpu, op));
  if (cpu.v86()) return outcome(iret_v86(cpu, op));
  if (!(cpu.rflags_rest & rflags::NT)) return outcome(iret_protected(cpu, op));
  if (cpu.long_mode()) return raise(cpu, GP, 0);
  return outcome(iret_task(cpu, op));
}

} // namespace abyme::soft::system
