#include "soft/mmu/access.hpp"
#include "soft/system/instructions.hpp"
#include "soft/system/segment_load.hpp"
#include "soft/system/stack.hpp"
#include <cstring>
#include <utility>

// MOV, PUSH, POP and far-pointer loads of segment registers; FS and GS bases.
namespace abyme::soft::system {

using namespace x86;

namespace {

bool is_segment(unsigned index) { return index < kSegments; }

// Blocks interrupts and debug traps until SS's ESP has been loaded too (SDM 3A §6.8.3).
void shadow_after_ss(Cpu &cpu) {
  cpu.shadow |= kShadowMovSs;
  cpu.need(kAttentionEvents);
}

Outcome finish_load(Cpu &cpu, u8 segment) {
  if (segment == SS) shadow_after_ss(cpu);
  return end_block(cpu);
}

Outcome load_far_pointer(Cpu &cpu, const Op &op, u8 segment) {
  u8 bytes[10] = {};
  u64 linear, offset = 0;
  u16 selector;
  if (!(op.flags & kOpMemory)) return raise(cpu, UD);
  if (!operand_linear(cpu, op, op.size + 2, false, linear) || !read_linear(cpu, linear, bytes, op.size + 2))
    return Outcome::Fault;
  std::memcpy(&offset, bytes, op.size);
  std::memcpy(&selector, bytes + op.size, 2);
  if (!load_segment(cpu, segment, selector)) return Outcome::Fault;
  write_register(cpu, op.reg, op.size, offset);
  return end_block(cpu);
}

bool fsgsbase_allowed(Cpu &cpu) {
  if (cpu.code64() && cpu.cr4 & cr4::FSGSBASE) return true;
  (void)raise(cpu, UD);
  return false;
}

Outcome read_base(Cpu &cpu, const Op &op, u8 segment) {
  if (!fsgsbase_allowed(cpu)) return Outcome::Fault;
  write_register(cpu, op.rm, op.size, cpu.segments[segment].base);
  return Outcome::Next;
}

Outcome write_base(Cpu &cpu, const Op &op, u8 segment) {
  if (!fsgsbase_allowed(cpu)) return Outcome::Fault;
  u64 base = read_register(cpu, op.rm, op.size);
  if (!canonical(cpu, base)) return raise(cpu, GP, 0);
  cpu.segments[segment].base = base;
  return Outcome::Next;
}

} // namespace

Outcome mov_to_segment(Cpu &cpu, const Op &op) {
  u8 segment = op.reg_index;
  if (!is_segment(segment) || segment == CS) return raise(cpu, UD);
  u64 selector;
  if (!read_rm(cpu, op, 2, selector) || !load_segment(cpu, segment, static_cast<u16>(selector))) return Outcome::Fault;
  return finish_load(cpu, segment);
}

Outcome mov_from_segment(Cpu &cpu, const Op &op) {
  if (!is_segment(op.reg_index)) return raise(cpu, UD);
  unsigned size = op.flags & kOpMemory ? 2 : op.size;
  return outcome(write_rm(cpu, op, size, cpu.segments[op.reg_index].selector), Outcome::Next);
}

Outcome push_segment(Cpu &cpu, const Op &op) {
  // The upper part of a slot wider than 16 bits keeps what the stack held (SDM 2B PUSH): only the selector is written.
  StackPlace stack = current_stack(cpu, 0);
  u64 top = (stack.sp - op.size) & stack.mask();
  u64 linear;
  if (!to_linear(cpu, SS, top, op.size, true, linear)) return Outcome::Fault;
  u64 value = cpu.segments[op.reg_index].selector;
  if (!write_linear(cpu, linear, &value, op.size == 8 ? 8 : 2)) return Outcome::Fault;
  set_sp(cpu, top, stack.mask());
  return Outcome::Next;
}

Outcome pop_segment(Cpu &cpu, const Op &op) {
  Popper stack(cpu, op.size);
  u16 selector;
  if (!stack.pop_selector(selector) || !load_segment(cpu, op.reg_index, selector)) return Outcome::Fault;
  stack.commit();
  return finish_load(cpu, op.reg_index);
}

Outcome les(Cpu &cpu, const Op &op) { return load_far_pointer(cpu, op, ES); }
Outcome lds(Cpu &cpu, const Op &op) { return load_far_pointer(cpu, op, DS); }
Outcome lss(Cpu &cpu, const Op &op) { return load_far_pointer(cpu, op, SS); }
Outcome lfs(Cpu &cpu, const Op &op) { return load_far_pointer(cpu, op, FS); }
Outcome lgs(Cpu &cpu, const Op &op) { return load_far_pointer(cpu, op, GS); }

Outcome swapgs(Cpu &cpu, const Op &) {
  if (!cpu.code64()) return raise(cpu, UD);
  if (!privileged(cpu)) return Outcome::Fault;
  std::swap(cpu.segments[GS].base, cpu.msr.kernel_gs_base);
  return Outcome::Next;
}

Outcome rdfsbase(Cpu &cpu, const Op &op) { return read_base(cpu, op, FS); }
Outcome rdgsbase(Cpu &cpu, const Op &op) { return read_base(cpu, op, GS); }
Outcome wrfsbase(Cpu &cpu, const Op &op) { return write_base(cpu, op, FS); }
Outcome wrgsbase(Cpu &cpu, const Op &op) { return write_base(cpu, op, GS); }

} // namespace abyme::soft::system
