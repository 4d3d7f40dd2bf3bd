#include "soft/mmu/access.hpp"
#include "soft/system/deliver.hpp"
#include "soft/system/segment_load.hpp"
#include "soft/system/stack.hpp"

namespace abyme::soft::system {

using namespace x86;

// SDM 3B §21.1.4: the table at IDTR holds far pointers; error codes are never pushed.
bool deliver_real(Cpu &cpu, const Event &event) {
  if (event.vector * 4u + 3 > cpu.idtr.limit) return fail(cpu, GP, idt_error(event));
  u32 pointer;
  if (!read_linear(cpu, (cpu.idtr.base + event.vector * 4u) & 0xFFFFFFFF, pointer, As::Supervisor)) return false;
  u16 offset = static_cast<u16>(pointer), selector = static_cast<u16>(pointer >> 16);
  if (offset > cpu.segments[CS].limit) return fail(cpu, GP, ext_of(event));

  Frame frame(2);
  frame.push(pushed_flags(cpu, event));
  frame.push(cpu.segments[CS].selector);
  frame.push(return_rip(cpu, event));
  StackPlace stack = current_stack(cpu, ext_of(event));
  if (!frame.write(cpu, stack)) return false;
  set_sp(cpu, stack.sp, stack.mask());
  load_real_segment(cpu, CS, selector);
  enter_handler(cpu, event, {rflags::IF | rflags::TF | rflags::AC | rflags::RF, offset});
  return true;
}

} // namespace abyme::soft::system
