#include "soft/system/control_registers.hpp"
#include "soft/apic/local_apic.hpp"
#include "soft/mmu/access.hpp"
#include "soft/system/instructions.hpp"
#include "soft/vmx/vmx.hpp"

// MOV to and from CR0 to CR8, CLTS, LMSW, SMSW, XGETBV, XSETBV (SDM 3A §2.5, SDM 2).
namespace abyme::soft::system {

using namespace x86;

namespace {

constexpr unsigned kGprBytes = 8;

// CR1, CR5 to CR7 and CR9 and up do not exist; CR8 only in 64-bit mode, without which REX.R cannot name it.
bool exists(unsigned cr) { return cr == 0 || (cr >= 2 && cr <= 4) || cr == 8; }

Outcome write_cr8(Cpu &cpu, const Op &op, u64 value) {
  bool exited = false;
  if (value > 15) return raise(cpu, GP, 0);
  if (vmx::cr8_write(cpu, op, value, exited)) return exited ? Outcome::Branch : end_block(cpu);
  cpu.apic->set_cr8(static_cast<u8>(value));
  if (cpu.interrupt_waiting) cpu.need(kAttentionInterrupt);
  return end_block(cpu);
}

Outcome read_cr8(Cpu &cpu, const Op &op) {
  u64 value;
  if (!vmx::cr8_read(cpu, op, value)) value = cpu.apic->cr8();
  write_register(cpu, op.rm, 8, value);
  return Outcome::Next;
}

} // namespace

Outcome mov_to_cr(Cpu &cpu, const Op &op) {
  unsigned cr = op.reg_index;
  if (!exists(cr)) return raise(cpu, UD);
  if (!privileged(cpu)) return Outcome::Fault;
  u64 value = read_register(cpu, op.rm, op.size);
  if (vmx::intercepts_cr_write(cpu, op, cr, op.rm / kGprBytes, value)) return Outcome::Branch;
  bool done = true;
  switch (cr) {
  case 0: done = write_cr0(cpu, value); break;
  case 2: cpu.cr2 = value; break;
  case 3: done = write_cr3(cpu, value); break;
  case 4: done = write_cr4(cpu, value); break;
  default: return write_cr8(cpu, op, value);
  }
  return done ? end_block(cpu) : Outcome::Fault;
}

Outcome mov_from_cr(Cpu &cpu, const Op &op) {
  unsigned cr = op.reg_index;
  if (!exists(cr)) return raise(cpu, UD);
  if (!privileged(cpu)) return Outcome::Fault;
  if (vmx::intercepts_cr_read(cpu, op, cr, op.rm / kGprBytes)) return Outcome::Branch;
  if (cr == 8) return read_cr8(cpu, op);
  u64 value = cr == 0 ? vmx::visible_cr0(cpu) : cr == 2 ? cpu.cr2 : cr == 3 ? cpu.cr3 : vmx::visible_cr4(cpu);
  write_register(cpu, op.rm, op.size, value);
  return Outcome::Next;
}

Outcome clts(Cpu &cpu, const Op &op) {
  bool clear = true;
  if (!privileged(cpu)) return Outcome::Fault;
  if (vmx::intercepts_clts(cpu, op, clear)) return Outcome::Branch;
  if (clear) cpu.cr0 &= ~cr0::TS;
  mode_changed(cpu);
  return end_block(cpu);
}

Outcome lmsw(Cpu &cpu, const Op &op) {
  u64 value, linear = 0;
  if (!privileged(cpu)) return Outcome::Fault;
  if (op.flags & kOpMemory && !operand_linear(cpu, op, 2, false, linear)) return Outcome::Fault;
  if (!read_rm(cpu, op, 2, value)) return Outcome::Fault;
  u16 source = static_cast<u16>(value);
  if (vmx::intercepts_lmsw(cpu, op, source, linear)) return Outcome::Branch;
  constexpr u64 kLoaded = cr0::MP | cr0::EM | cr0::TS;
  // PE can be set but not cleared (SDM 2A LMSW).
  u64 result = (cpu.cr0 & ~kLoaded) | (source & (kLoaded | cr0::PE));
  return write_cr0(cpu, result) ? end_block(cpu) : Outcome::Fault;
}

Outcome smsw(Cpu &cpu, const Op &op) {
  if (cpu.cr4 & cr4::UMIP && cpu.cpl > 0) return raise(cpu, GP, 0);
  unsigned size = op.flags & kOpMemory ? 2 : op.size;
  return outcome(write_rm(cpu, op, size, vmx::visible_cr0(cpu)), Outcome::Next);
}

Outcome xgetbv(Cpu &cpu, const Op &) {
  if (!(cpu.cr4 & cr4::OSXSAVE)) return raise(cpu, UD);
  u32 index = low32(cpu, RCX);
  // Index 1 is XCR0 & XINUSE; every enabled component may count as in use (SDM 1 §13.6).
  if (index != 0 && !(index == 1 && cpu.profile->has(Feature::xgetbv1))) return raise(cpu, GP, 0);
  cpu.gpr[RAX] = static_cast<u32>(cpu.xcr0);
  cpu.gpr[RDX] = cpu.xcr0 >> 32;
  return Outcome::Next;
}

Outcome xsetbv(Cpu &cpu, const Op &op) {
  if (!(cpu.cr4 & cr4::OSXSAVE)) return raise(cpu, UD);
  if (!privileged(cpu)) return Outcome::Fault;
  if (vmx::intercepts(cpu, op, vmx::Instruction::Xsetbv)) return Outcome::Branch;
  if (low32(cpu, RCX) != 0) return raise(cpu, GP, 0);
  if (!write_xcr0(cpu, cpu.gpr[RDX] << 32 | low32(cpu, RAX))) return Outcome::Fault;
  return end_block(cpu);
}

} // namespace abyme::soft::system
