#include "soft/mmu/access.hpp"
#include "soft/system/segment_load.hpp"
#include "soft/system/stack.hpp"
#include "soft/system/system.hpp"
#include "soft/system/task_switch.hpp"
#include "soft/system/tss.hpp"
#include <cstring>

// Far JMP and CALL, directly and through gates (SDM 2A CALL, JMP; SDM 3A §5.8).
namespace abyme::soft::system {

using namespace x86;

namespace {

struct Pointer {
  u16 selector = 0;
  u64 offset = 0;
};

// ptr16:size in the instruction, or m16:size in memory.
bool read_pointer(Cpu &cpu, const Op &op, Pointer &p) {
  if (!(op.flags & kOpMemory)) {
    p = {static_cast<u16>(op.disp), static_cast<u32>(op.imm)};
    return true;
  }
  u8 bytes[10] = {};
  u64 linear;
  if (!operand_linear(cpu, op, op.size + 2, false, linear) || !read_linear(cpu, linear, bytes, op.size + 2))
    return false;
  p.offset = 0;
  std::memcpy(&p.offset, bytes, op.size);
  std::memcpy(&p.selector, bytes + op.size, 2);
  return true;
}

enum class Kind : bool { Jump, Call };

// Where the transfer goes, once all checks have passed.
struct Target {
  u16 selector;
  u64 rip;
  Descriptor code;
  u8 cpl;
  unsigned item_size; // of what CALL pushes
};

bool check_rip(Cpu &cpu, const Target &t) {
  bool to_64 = cpu.long_mode() && t.code.is_long();
  bool ok = to_64 ? canonical(cpu, t.rip) : t.rip <= t.code.limit();
  return ok || fail(cpu, GP, 0);
}

void arrive(Cpu &cpu, const Target &t) {
  load_cs(cpu, t.code, t.selector, t.cpl);
  cpu.rip = t.rip;
  mode_changed(cpu);
}

bool push_return(Cpu &cpu, unsigned item_size, StackPlace &stack) {
  Frame frame(item_size);
  frame.push(cpu.segments[CS].selector);
  frame.push(cpu.next_rip);
  return frame.write(cpu, stack);
}

// Transfers without a change of stack.
bool transfer_same_stack(Cpu &cpu, Target &t, Kind kind) {
  StackPlace stack = current_stack(cpu, 0);
  if (!check_rip(cpu, t) || !mark_accessed(cpu, t.code)) return false;
  if (kind == Kind::Call) {
    if (!push_return(cpu, t.item_size, stack)) return false;
    set_sp(cpu, stack.sp, stack.mask());
  }
  arrive(cpu, t);
  return true;
}

bool transfer_real(Cpu &cpu, const Op &op, Pointer to, Kind kind) {
  if (to.offset > cpu.segments[CS].limit) return fail(cpu, GP, 0);
  if (kind == Kind::Call) {
    StackPlace stack = current_stack(cpu, 0);
    if (!push_return(cpu, op.size, stack)) return false;
    set_sp(cpu, stack.sp, stack.mask());
  }
  cpu.v86() ? load_v86_segment(cpu, CS, to.selector) : load_real_segment(cpu, CS, to.selector);
  cpu.rip = to.offset;
  mode_changed(cpu);
  return true;
}

bool to_code(Cpu &cpu, const Op &op, Pointer to, Descriptor d, Kind kind) {
  u32 error = selector_error(to.selector);
  if (cpu.long_mode() && d.is_long() && d.big()) return fail(cpu, GP, error);
  bool allowed = d.conforming() ? d.dpl() <= cpu.cpl : (to.selector & 3) <= cpu.cpl && d.dpl() == cpu.cpl;
  if (!allowed) return fail(cpu, GP, error);
  if (!d.present()) return fail(cpu, NP, error);
  Target t{to.selector, to.offset, d, cpu.cpl, op.size};
  return transfer_same_stack(cpu, t, kind);
}

// The code segment that a call gate names.
bool read_gate_target(Cpu &cpu, const Descriptor &gate, Kind kind, Target &t) {
  u16 selector = gate.gate_selector();
  u32 error = selector_error(selector);
  if (is_null(selector)) return fail(cpu, GP, 0);
  Descriptor d;
  if (!read_descriptor(cpu, selector, d)) return false;
  if (!d.is_code() || d.dpl() > cpu.cpl) return fail(cpu, GP, error);
  if (kind == Kind::Jump && !d.conforming() && d.dpl() != cpu.cpl) return fail(cpu, GP, error);
  if (cpu.long_mode() && (!d.is_long() || d.big())) return fail(cpu, GP, error);
  if (!d.present()) return fail(cpu, NP, error);
  u8 cpl = d.conforming() ? cpu.cpl : static_cast<u8>(d.dpl());
  unsigned item_size = cpu.long_mode() ? 8 : gate.type() & 8 ? 4 : 2;
  t = {selector, gate.gate_offset(), d, cpl, item_size};
  return true;
}

// Parameters of a call gate, from the caller's stack.
bool copy_parameters(Cpu &cpu, unsigned count, unsigned item_size, Frame &frame) {
  Popper caller(cpu, item_size);
  u64 items[31];
  for (unsigned i = 0; i < count; i++)
    if (!caller.pop(items[i])) return false;
  for (unsigned i = count; i-- > 0;) frame.push(items[i]);
  return true;
}

bool inner_stack(Cpu &cpu, u8 cpl, StackPlace &stack) {
  if (cpu.long_mode()) {
    stack = {null_stack_segment(cpl, cpl), 0, cpl, 0, true};
    return read_tss_rsp(cpu, tss_rsp_offset(cpl), 0, stack.sp);
  }
  u16 selector;
  u32 esp;
  if (!read_tss_stack(cpu, cpl, 0, selector, esp)) return false;
  if (is_null(selector)) return fail(cpu, TS, 0);
  Descriptor ss;
  if (!read_stack_segment(cpu, selector, {cpl, TS}, ss)) return false;
  stack = {ss.segment(selector), esp, cpl, selector_error(selector), false};
  return true;
}

// SDM 2A CALL, "MORE-PRIVILEGE".
bool call_inner(Cpu &cpu, Target &t, unsigned parameters) {
  StackPlace stack;
  if (!inner_stack(cpu, t.cpl, stack)) return false;
  Frame frame(t.item_size);
  frame.push(cpu.segments[SS].selector);
  frame.push(cpu.gpr[RSP]);
  if (!cpu.long_mode() && !copy_parameters(cpu, parameters, t.item_size, frame)) return false;
  frame.push(cpu.segments[CS].selector);
  frame.push(cpu.next_rip);
  if (!frame.fits(cpu, stack) || !check_rip(cpu, t) || !mark_accessed(cpu, t.code) || !frame.write(cpu, stack))
    return false;
  cpu.segments[SS] = stack.ss;
  set_sp(cpu, stack.sp, stack.mask());
  arrive(cpu, t);
  return true;
}

bool check_gate_privilege(Cpu &cpu, u16 selector, const Descriptor &gate) {
  u32 error = selector_error(selector);
  if (gate.dpl() < cpu.cpl || gate.dpl() < (selector & 3u)) return fail(cpu, GP, error);
  return gate.present() || fail(cpu, NP, error);
}

bool through_call_gate(Cpu &cpu, u16 selector, const Descriptor &gate, Kind kind) {
  Target t;
  if (!check_gate_privilege(cpu, selector, gate) || !read_gate_target(cpu, gate, kind, t)) return false;
  if (kind == Kind::Call && t.cpl < cpu.cpl) return call_inner(cpu, t, gate.gate_parameters());
  return transfer_same_stack(cpu, t, kind);
}

bool to_task(Cpu &cpu, const Op &op, u16 selector, Kind kind) {
  TaskSource source = kind == Kind::Call ? TaskSource::Call : TaskSource::Jump;
  return switch_task(cpu, {.selector = selector,
                           .source = source,
                           .return_rip = cpu.next_rip,
                           .ext = 0,
                           .push_error = false,
                           .error = 0,
                           .op = &op});
}

bool to_system(Cpu &cpu, const Op &op, u16 selector, Kind kind) {
  u32 error = selector_error(selector);
  Descriptor d;
  if (!read_system_descriptor(cpu, selector, d)) return false;
  if (cpu.long_mode())
    return d.type() == kCallGate32 ? through_call_gate(cpu, selector, d, kind) : fail(cpu, GP, error);
  switch (d.type()) {
  case kCallGate16:
  case kCallGate32: return through_call_gate(cpu, selector, d, kind);
  case kTaskGate: return check_gate_privilege(cpu, selector, d) && to_task(cpu, op, d.gate_selector(), kind);
  case kTss16:
  case kTss32:
    if (d.dpl() < cpu.cpl || d.dpl() < (selector & 3u)) return fail(cpu, GP, error);
    return to_task(cpu, op, selector, kind);
  default: return fail(cpu, GP, error);
  }
}

Outcome transfer(Cpu &cpu, const Op &op, Kind kind) {
  Pointer to;
  if (!read_pointer(cpu, op, to)) return Outcome::Fault;
  if (!cpu.protected_mode() || cpu.v86()) return outcome(transfer_real(cpu, op, to, kind));
  if (is_null(to.selector)) return raise(cpu, GP, 0);
  Descriptor d;
  if (!read_descriptor(cpu, to.selector, d)) return Outcome::Fault;
  if (d.is_system()) return outcome(to_system(cpu, op, to.selector, kind));
  if (!d.is_code()) return raise(cpu, GP, selector_error(to.selector));
  return outcome(to_code(cpu, op, to, d, kind));
}

} // namespace

Outcome jump_far(Cpu &cpu, const Op &op) { return transfer(cpu, op, Kind::Jump); }
Outcome call_far(Cpu &cpu, const Op &op) { return transfer(cpu, op, Kind::Call); }

} // namespace abyme::soft::system
