#include "soft/mmu/access.hpp"
#include "soft/system/instructions.hpp"
#include "soft/vmx/vmx.hpp"
#include <cstring>

// LGDT, LIDT, SGDT, SIDT, LLDT, SLDT, LTR, STR (SDM 3A §2.4, §3.5.1).
namespace abyme::soft::system {

using namespace x86;
using vmx::Instruction;

namespace {

// A limit of two bytes and a base of four or eight.
struct [[gnu::packed]] PseudoDescriptor {
  u16 limit;
  u64 base;
};

unsigned pseudo_size(const Cpu &cpu) { return cpu.code64() ? 10 : 6; }

bool is_real_or_v86(const Cpu &cpu) { return !cpu.protected_mode() || cpu.v86(); }

bool umip_allows(Cpu &cpu) {
  bool allowed = !(cpu.cr4 & cr4::UMIP) || cpu.cpl == 0;
  return allowed || fail(cpu, GP, 0);
}

Outcome load_table(Cpu &cpu, const Op &op, TableRegister &table, Instruction what) {
  if (!privileged(cpu)) return Outcome::Fault;
  if (vmx::intercepts(cpu, op, what)) return Outcome::Branch;
  PseudoDescriptor pseudo = {};
  if (!read_operand(cpu, op, &pseudo, pseudo_size(cpu))) return Outcome::Fault;
  if (cpu.code64() && !canonical(cpu, pseudo.base)) return raise(cpu, GP, 0);
  bool base24 = !cpu.code64() && op.size == 2;
  table = {base24 ? pseudo.base & 0xFFFFFF : pseudo.base, pseudo.limit};
  return Outcome::Next;
}

Outcome store_table(Cpu &cpu, const Op &op, const TableRegister &table, Instruction what) {
  if (!umip_allows(cpu)) return Outcome::Fault;
  if (vmx::intercepts(cpu, op, what)) return Outcome::Branch;
  PseudoDescriptor pseudo = {table.limit, table.base};
  return outcome(write_operand(cpu, op, &pseudo, pseudo_size(cpu)), Outcome::Next);
}

Outcome store_selector(Cpu &cpu, const Op &op, u16 selector, Instruction what) {
  if (is_real_or_v86(cpu)) return raise(cpu, UD);
  if (!umip_allows(cpu)) return Outcome::Fault;
  if (vmx::intercepts(cpu, op, what)) return Outcome::Branch;
  unsigned size = op.flags & kOpMemory ? 2 : op.size;
  return outcome(write_rm(cpu, op, size, selector), Outcome::Next);
}

// What LLDT and LTR check before they look at the descriptor's type.
Outcome read_system_selector(Cpu &cpu, const Op &op, Instruction what, u16 &selector) {
  if (is_real_or_v86(cpu)) return raise(cpu, UD);
  if (!privileged(cpu)) return Outcome::Fault;
  if (vmx::intercepts(cpu, op, what)) return Outcome::Branch;
  u64 value;
  if (!read_rm(cpu, op, 2, value)) return Outcome::Fault;
  selector = static_cast<u16>(value);
  return Outcome::Next;
}

// A present descriptor of one of the types in `types` (a bit each), from the GDT.
bool read_gdt_descriptor(Cpu &cpu, u16 selector, u32 types, Descriptor &d) {
  u32 error = selector_error(selector);
  if (selector & 4) return fail(cpu, GP, error);
  if (!read_system_descriptor(cpu, selector, d)) return false;
  if (!d.is_system() || !(types >> d.type() & 1)) return fail(cpu, GP, error);
  if (!d.present()) return fail(cpu, NP, error);
  if (cpu.long_mode() && !canonical(cpu, d.base())) return fail(cpu, GP, error);
  return true;
}

} // namespace

Outcome lgdt(Cpu &cpu, const Op &op) { return load_table(cpu, op, cpu.gdtr, Instruction::Lgdt); }
Outcome lidt(Cpu &cpu, const Op &op) { return load_table(cpu, op, cpu.idtr, Instruction::Lidt); }
Outcome sgdt(Cpu &cpu, const Op &op) { return store_table(cpu, op, cpu.gdtr, Instruction::Sgdt); }
Outcome sidt(Cpu &cpu, const Op &op) { return store_table(cpu, op, cpu.idtr, Instruction::Sidt); }
Outcome sldt(Cpu &cpu, const Op &op) { return store_selector(cpu, op, cpu.ldtr.selector, Instruction::Sldt); }
Outcome str(Cpu &cpu, const Op &op) { return store_selector(cpu, op, cpu.tr.selector, Instruction::Str); }

Outcome lldt(Cpu &cpu, const Op &op) {
  u16 selector;
  if (Outcome read = read_system_selector(cpu, op, Instruction::Lldt, selector); read != Outcome::Next) return read;
  if (is_null(selector)) {
    cpu.ldtr = {0, 0, Segment::kUnusable, selector};
    return Outcome::Next;
  }
  Descriptor d;
  if (!read_gdt_descriptor(cpu, selector, 1 << kLdt, d)) return Outcome::Fault;
  cpu.ldtr = d.segment(selector);
  return Outcome::Next;
}

Outcome ltr(Cpu &cpu, const Op &op) {
  u16 selector;
  if (Outcome read = read_system_selector(cpu, op, Instruction::Ltr, selector); read != Outcome::Next) return read;
  if (is_null(selector)) return raise(cpu, GP, 0);
  Descriptor d;
  u32 types = cpu.long_mode() ? 1 << kTss32 : 1 << kTss16 | 1 << kTss32;
  if (!read_gdt_descriptor(cpu, selector, types, d) || !mark_busy(cpu, d, true)) return Outcome::Fault;
  cpu.tr = d.segment(selector);
  return Outcome::Next;
}

} // namespace abyme::soft::system
