#include "soft/system/far_return.hpp"
#include "soft/system/segment_load.hpp"
#include "soft/system/system.hpp"

namespace abyme::soft::system {

using namespace x86;

bool read_return_code(Cpu &cpu, Return &to) {
  if (is_null(to.cs)) return fail(cpu, GP, 0);
  if (!read_descriptor(cpu, to.cs, to.code)) return false;
  u32 error = selector_error(to.cs);
  const Descriptor &code = to.code;
  if (!code.is_code() || to.cpl() < cpu.cpl) return fail(cpu, GP, error);
  if (cpu.long_mode() && code.is_long() && code.big()) return fail(cpu, GP, error);
  if (code.conforming() ? code.dpl() > to.cpl() : code.dpl() != to.cpl()) return fail(cpu, GP, error);
  if (!code.present()) return fail(cpu, NP, error);
  return mark_accessed(cpu, to.code);
}

bool check_return_rip(Cpu &cpu, const Return &to) {
  bool ok = to.to_64(cpu) ? canonical(cpu, to.rip) : to.rip <= to.code.limit();
  return ok || fail(cpu, GP, 0);
}

bool read_return_stack(Cpu &cpu, Return &to) {
  if (is_null(to.ss)) {
    if (!to.to_64(cpu) || to.cpl() == 3) return fail(cpu, GP, 0);
    if ((to.ss & 3) != to.cpl()) return fail(cpu, GP, selector_error(to.ss));
    to.stack = null_stack_segment(to.ss, to.cpl());
    return true;
  }
  Descriptor d;
  if (!read_stack_segment(cpu, to.ss, {to.cpl()}, d)) return false;
  to.stack = d.segment(to.ss);
  return true;
}

void commit_return(Cpu &cpu, const Return &to, bool with_stack) {
  bool outer = to.cpl() > cpu.cpl;
  u64 mask = stack_mask(cpu);
  load_cs(cpu, to.code, to.cs, to.cpl());
  cpu.rip = to.to_64(cpu) ? to.rip : to.rip & 0xFFFFFFFF;
  if (with_stack) {
    cpu.segments[SS] = to.stack;
    mask = to.to_64(cpu) ? ~0ull : to.stack.big() ? 0xFFFFFFFF : 0xFFFF;
  }
  set_sp(cpu, to.rsp, mask);
  if (outer) drop_inner_segments(cpu);
  mode_changed(cpu);
}

namespace {

bool return_real(Cpu &cpu, const Op &op) {
  Popper stack(cpu, op.size);
  u64 rip;
  u16 selector;
  if (!stack.pop(rip) || !stack.pop_selector(selector)) return false;
  if (rip > cpu.segments[CS].limit) return fail(cpu, GP, 0);
  stack.skip(static_cast<u16>(op.imm));
  stack.commit();
  cpu.v86() ? load_v86_segment(cpu, CS, selector) : load_real_segment(cpu, CS, selector);
  cpu.rip = rip;
  mode_changed(cpu);
  return true;
}

bool return_protected(Cpu &cpu, const Op &op) {
  Popper stack(cpu, op.size);
  Return to;
  if (!stack.pop(to.rip) || !stack.pop_selector(to.cs) || !read_return_code(cpu, to)) return false;
  u16 parameters = static_cast<u16>(op.imm);
  stack.skip(parameters);
  bool outer = to.cpl() > cpu.cpl;
  to.rsp = stack.sp();
  if (outer) {
    if (!stack.pop(to.rsp) || !stack.pop_selector(to.ss) || !read_return_stack(cpu, to)) return false;
    to.rsp += parameters;
  }
  if (!check_return_rip(cpu, to)) return false;
  commit_return(cpu, to, outer);
  return true;
}

} // namespace

Outcome return_far(Cpu &cpu, const Op &op) {
  bool real = !cpu.protected_mode() || cpu.v86();
  return outcome(real ? return_real(cpu, op) : return_protected(cpu, op));
}

} // namespace abyme::soft::system
