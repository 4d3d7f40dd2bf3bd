#include "soft/system/flags.hpp"
#include "soft/mmu/access.hpp"
#include "soft/system/instructions.hpp"
#include "soft/system/stack.hpp"

// PUSHF, POPF, CLI and STI.
namespace abyme::soft::system {

using namespace x86;

void write_flags(Cpu &cpu, u64 value, u64 mask) {
  u64 before = rflags(cpu), after = (before & ~mask) | (value & mask);
  set_rflags(cpu, after);
  if ((before ^ after) & (rflags::VM | rflags::AC | rflags::IF)) mode_changed(cpu);
  if (~before & after & rflags::IF)
    cpu.need(cpu.interrupt_waiting ? kAttentionEvents | kAttentionInterrupt : +kAttentionEvents);
  if (after & rflags::TF) cpu.need(kAttentionEvents);
}

bool virtual_interrupt_flag(const Cpu &cpu) {
  if (!cpu.protected_mode() || cpu.iopl() == 3) return false;
  return cpu.v86() ? cpu.cr4 & cr4::VME : cpu.cpl == 3 && cpu.cr4 & cr4::PVI;
}

namespace {

bool push_flags(Cpu &cpu, u64 value, unsigned size) {
  Frame frame(size);
  frame.push(value);
  StackPlace stack = current_stack(cpu, 0);
  if (!frame.write(cpu, stack)) return false;
  set_sp(cpu, stack.sp, stack.mask());
  return true;
}

// SDM 2B POPF, table 4-21: which bits change.
u64 popf_mask(const Cpu &cpu, unsigned size) {
  u64 mask = kFreeFlags | (size == 2 ? 0 : kFreeFlags32);
  if (!cpu.protected_mode() || (!cpu.v86() && cpu.cpl == 0)) return mask | rflags::IF | rflags::IOPL;
  return cpu.cpl <= cpu.iopl() ? mask | rflags::IF : mask;
}

// POPF with 16-bit operands in virtual-8086 mode with VME and IOPL below 3: IF goes to VIF.
bool popf_vme(Cpu &cpu, u64 value) {
  if (value & rflags::TF || (value & rflags::IF && rflags(cpu) & rflags::VIP)) return fail(cpu, GP, 0);
  u64 virtual_if = value & rflags::IF ? rflags::VIF : 0;
  write_flags(cpu, (value & ~rflags::VIF) | virtual_if, kFreeFlags | rflags::VIF);
  return true;
}

} // namespace

Outcome pushf(Cpu &cpu, const Op &op) {
  u64 image = rflags(cpu) & ~(rflags::VM | rflags::RF);
  if (cpu.v86() && cpu.iopl() < 3) {
    if (op.size != 2 || !virtual_interrupt_flag(cpu)) return raise(cpu, GP, 0);
    image = (image & ~rflags::IF) | rflags::IOPL | (image & rflags::VIF ? rflags::IF : 0);
  }
  return outcome(push_flags(cpu, image, op.size), Outcome::Next);
}

Outcome popf(Cpu &cpu, const Op &op) {
  bool vme = false;
  if (cpu.v86() && cpu.iopl() < 3) {
    vme = op.size == 2 && virtual_interrupt_flag(cpu);
    if (!vme) return raise(cpu, GP, 0);
  }
  Popper stack(cpu, op.size);
  u64 value;
  if (!stack.pop(value) || (vme && !popf_vme(cpu, value))) return Outcome::Fault;
  stack.commit();
  if (!vme) {
    u64 mask = popf_mask(cpu, op.size);
    // RF is always cleared by operands of 32 and 64 bits; VIF and VIP keep theirs.
    write_flags(cpu, value & ~rflags::RF, mask | (op.size == 2 ? 0 : rflags::RF));
  }
  return Outcome::Next;
}

Outcome cli(Cpu &cpu, const Op &) {
  if (!cpu.protected_mode() || cpu.cpl <= cpu.iopl())
    write_flags(cpu, 0, rflags::IF);
  else if (virtual_interrupt_flag(cpu))
    write_flags(cpu, 0, rflags::VIF);
  else
    return raise(cpu, GP, 0);
  return Outcome::Next;
}

Outcome sti(Cpu &cpu, const Op &) {
  if (!cpu.protected_mode() || cpu.cpl <= cpu.iopl()) {
    if (!(cpu.rflags_rest & rflags::IF)) {
      write_flags(cpu, rflags::IF, rflags::IF);
      cpu.shadow |= kShadowSti;
      cpu.need(kAttentionEvents);
    }
    return Outcome::Next;
  }
  if (!virtual_interrupt_flag(cpu) || rflags(cpu) & rflags::VIP) return raise(cpu, GP, 0);
  write_flags(cpu, rflags::VIF, rflags::VIF);
  return Outcome::Next;
}

} // namespace abyme::soft::system
