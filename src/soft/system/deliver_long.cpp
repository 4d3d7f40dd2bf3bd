#include "soft/mmu/access.hpp"
#include "soft/system/deliver.hpp"
#include "soft/system/segment_load.hpp"
#include "soft/system/stack.hpp"
#include "soft/system/tss.hpp"

namespace abyme::soft::system {

using namespace x86;

namespace {

// 16-byte gates; only interrupt and trap gates exist (SDM 3A §6.14.1).
bool read_gate(Cpu &cpu, const Event &event, Descriptor &gate) {
  u32 offset = event.vector * 16u;
  if (offset + 15 > cpu.idtr.limit) return fail(cpu, GP, idt_error(event));
  u64 halves[2];
  if (!read_linear(cpu, cpu.idtr.base + offset, halves, sizeof halves, As::Supervisor)) return false;
  gate = {halves[0], halves[1], 0};
  if (!gate.is_system() || (gate.type() != kInterruptGate32 && gate.type() != kTrapGate32))
    return fail(cpu, GP, idt_error(event));
  return check_gate(cpu, event, gate);
}

bool read_code(Cpu &cpu, u16 selector, u32 ext, Descriptor &code) {
  if (!read_handler_code(cpu, selector, ext, code)) return false;
  if (!code.is_long() || code.big()) return fail(cpu, GP, selector_error(selector, ext));
  if (!code.present()) return fail(cpu, NP, selector_error(selector, ext));
  return mark_accessed(cpu, code);
}

// SDM 3A §6.14.2, §6.14.4, §6.14.5: RSP from the IST, the TSS or as it is, aligned to 16.
bool choose_stack(Cpu &cpu, unsigned ist, u8 cpl, u32 ext, StackPlace &stack) {
  stack = {cpu.segments[SS], cpu.gpr[RSP], cpl, ext, true};
  bool inner = cpl < cpu.cpl;
  if (ist || inner) {
    if (!read_tss_rsp(cpu, ist ? tss_ist_offset(ist) : tss_rsp_offset(cpl), ext, stack.sp)) return false;
  }
  if (inner) stack.ss = null_stack_segment(cpl, cpl);
  stack.sp &= ~15ull;
  return true;
}

} // namespace

bool deliver_long(Cpu &cpu, const Event &event) {
  u32 ext = ext_of(event);
  Descriptor gate, code;
  StackPlace stack;
  if (!read_gate(cpu, event, gate) || !read_code(cpu, gate.gate_selector(), ext, code)) return false;
  u8 cpl = code.conforming() ? cpu.cpl : static_cast<u8>(code.dpl());
  if (!choose_stack(cpu, gate.gate_ist(), cpl, ext, stack)) return false;
  if (!canonical(cpu, gate.gate_offset())) return fail(cpu, GP, ext);

  Frame frame(8);
  frame.push(cpu.segments[SS].selector);
  frame.push(cpu.gpr[RSP]);
  frame.push(pushed_flags(cpu, event));
  frame.push(cpu.segments[CS].selector);
  frame.push(return_rip(cpu, event));
  if (event.has_error) frame.push(event.error);
  if (!frame.write(cpu, stack)) return false;

  cpu.segments[SS] = stack.ss;
  cpu.gpr[RSP] = stack.sp;
  load_cs(cpu, code, gate.gate_selector(), cpl);
  u64 clear = kClearAlways | (gate.type() == kInterruptGate32 ? rflags::IF : 0);
  enter_handler(cpu, event, {clear, gate.gate_offset()});
  return true;
}

} // namespace abyme::soft::system
