#include "soft/mmu/access.hpp"
#include "soft/system/deliver.hpp"
#include "soft/system/segment_load.hpp"
#include "soft/system/stack.hpp"
#include "soft/system/task_switch.hpp"
#include "soft/system/tss.hpp"

namespace abyme::soft::system {

using namespace x86;

namespace {

bool is_event_gate(const Descriptor &gate) {
  if (!gate.is_system()) return false;
  switch (gate.type()) {
  case kTaskGate:
  case kInterruptGate16:
  case kTrapGate16:
  case kInterruptGate32:
  case kTrapGate32: return true;
  default: return false;
  }
}

bool read_gate(Cpu &cpu, const Event &event, Descriptor &gate) {
  u32 offset = event.vector * 8u;
  if (offset + 7 > cpu.idtr.limit) return fail(cpu, GP, idt_error(event));
  gate = {};
  if (!read_linear(cpu, (cpu.idtr.base + offset) & 0xFFFFFFFF, gate.raw, As::Supervisor)) return false;
  if (!is_event_gate(gate)) return fail(cpu, GP, idt_error(event));
  return check_gate(cpu, event, gate);
}

bool through_task_gate(Cpu &cpu, const Event &event, const Descriptor &gate) {
  if (!switch_task(cpu, {.selector = gate.gate_selector(),
                         .source = TaskSource::Gate,
                         .return_rip = return_rip(cpu, event),
                         .ext = ext_of(event),
                         .push_error = event.has_error,
                         .error = event.error}))
    return false;
  if (event.type == EventType::Nmi) cpu.nmi_blocked = true;
  return true;
}

// One delivery through an interrupt or trap gate.
struct Transfer {
  const Event &event;
  Descriptor gate, code;
  u8 cpl = 0;
  u32 ext = 0;
  StackPlace stack;

  [[nodiscard]] unsigned item_size() const { return gate.type() & 8 ? 4 : 2; }
  [[nodiscard]] bool interrupt_gate() const { return !(gate.type() & 1); }
};

// SDM 2A INT n, "INTER-PRIVILEGE-LEVEL-INTERRUPT": SS:ESP of the handler's level.
bool inner_stack(Cpu &cpu, Transfer &t) {
  u16 selector;
  u32 esp;
  if (!read_tss_stack(cpu, t.cpl, t.ext, selector, esp)) return false;
  if (is_null(selector)) return fail(cpu, TS, t.ext);
  Descriptor ss;
  if (!read_stack_segment(cpu, selector, {t.cpl, TS, t.ext}, ss)) return false;
  t.stack = {ss.segment(selector), esp, t.cpl, selector_error(selector, t.ext), false};
  return true;
}

bool choose_level(Cpu &cpu, Transfer &t) {
  u32 error = selector_error(t.gate.gate_selector(), t.ext);
  if (!read_handler_code(cpu, t.gate.gate_selector(), t.ext, t.code)) return false;
  if (!t.code.present()) return fail(cpu, NP, error);
  t.cpl = t.code.conforming() ? cpu.cpl : static_cast<u8>(t.code.dpl());
  if (cpu.v86() && t.cpl != 0) return fail(cpu, GP, error);
  t.stack = current_stack(cpu, t.ext);
  return t.cpl == cpu.cpl || inner_stack(cpu, t);
}

void build_frame(const Cpu &cpu, const Transfer &t, Frame &frame) {
  if (cpu.v86())
    for (u8 segment : {GS, FS, DS, ES}) frame.push(cpu.segments[segment].selector);
  if (t.cpl != cpu.cpl) {
    frame.push(cpu.segments[SS].selector);
    frame.push(cpu.gpr[RSP]);
  }
  frame.push(pushed_flags(cpu, t.event));
  frame.push(cpu.segments[CS].selector);
  frame.push(return_rip(cpu, t.event));
  if (t.event.has_error) frame.push(t.event.error);
}

void commit(Cpu &cpu, Transfer &t) {
  if (cpu.v86())
    for (u8 segment : {GS, FS, DS, ES}) load_null_segment(cpu, segment, 0);
  cpu.segments[SS] = t.stack.ss;
  set_sp(cpu, t.stack.sp, t.stack.mask());
  load_cs(cpu, t.code, t.gate.gate_selector(), t.cpl);
  u64 clear = kClearAlways | (t.interrupt_gate() ? rflags::IF : 0);
  enter_handler(cpu, t.event, {clear, t.gate.gate_offset()});
}

} // namespace

bool deliver_protected(Cpu &cpu, const Event &event) {
  Transfer t{.event = event, .gate = {}, .code = {}, .cpl = 0, .ext = ext_of(event), .stack = {}};
  if (!read_gate(cpu, event, t.gate)) return false;
  if (t.gate.type() == kTaskGate) return through_task_gate(cpu, event, t.gate);
  if (!choose_level(cpu, t)) return false;
  Frame frame(t.item_size());
  build_frame(cpu, t, frame);
  if (!frame.fits(cpu, t.stack)) return false;
  if (t.gate.gate_offset() > t.code.limit()) return fail(cpu, GP, t.ext);
  if (!mark_accessed(cpu, t.code) || !frame.write(cpu, t.stack)) return false;
  commit(cpu, t);
  return true;
}

} // namespace abyme::soft::system
