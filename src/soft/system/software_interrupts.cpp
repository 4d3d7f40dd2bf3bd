#include "soft/mmu/access.hpp"
#include "soft/system/deliver.hpp"
#include "soft/system/flags.hpp"
#include "soft/system/instructions.hpp"
#include "soft/system/segment_load.hpp"
#include "soft/system/stack.hpp"
#include "soft/system/tss.hpp"
#include "soft/vmx/vmx.hpp"

// INT n, INT3, INTO, INT1, BOUND and the undefined instructions.
namespace abyme::soft::system {

using namespace x86;

namespace {

// Delivery starts with RIP at the instruction, so that a fault on the way restarts it.
Outcome deliver_software(Cpu &cpu, Event event, const Op &op) {
  event.length = op.length;
  if (vmx::intercepts_event(cpu, event)) return Outcome::Branch;
  cpu.delivering = true;
  cpu.vectoring = event;
  if (!deliver(cpu, event)) return Outcome::Fault;
  cpu.delivering = false;
  return Outcome::Branch;
}

// INT n in virtual-8086 mode with VME, where the redirection map says that the 8086 program handles it itself (SDM 3B
// §21.3.3).
Outcome deliver_to_8086(Cpu &cpu, u8 vector) {
  u32 pointer;
  if (!read_linear(cpu, vector * 4u, pointer)) return Outcome::Fault;
  u64 flags = rflags(cpu);
  u64 clear = rflags::TF | rflags::NT;
  if (cpu.iopl() == 3) {
    clear |= rflags::IF;
  } else {
    flags = (flags & ~rflags::IF) | rflags::IOPL | (flags & rflags::VIF ? rflags::IF : 0);
    clear |= rflags::VIF;
  }
  Frame frame(2);
  frame.push(flags);
  frame.push(cpu.segments[CS].selector);
  frame.push(cpu.next_rip);
  StackPlace stack = current_stack(cpu, 0);
  if (!frame.write(cpu, stack)) return Outcome::Fault;
  set_sp(cpu, stack.sp, stack.mask());
  load_v86_segment(cpu, CS, static_cast<u16>(pointer >> 16));
  cpu.rip = pointer & 0xFFFF;
  write_flags(cpu, 0, clear);
  return Outcome::Branch;
}

} // namespace

Outcome int_n(Cpu &cpu, const Op &op) {
  u8 vector = static_cast<u8>(op.imm);
  if (cpu.v86()) {
    bool to_monitor = true;
    if (cpu.cr4 & cr4::VME && !read_redirection(cpu, vector, to_monitor)) return Outcome::Fault;
    if (!to_monitor) return deliver_to_8086(cpu, vector);
    if (cpu.iopl() < 3) return raise(cpu, GP, 0);
  }
  return deliver_software(cpu, {.type = EventType::SoftwareInterrupt, .vector = vector}, op);
}

Outcome int3(Cpu &cpu, const Op &op) {
  return deliver_software(cpu, {.type = EventType::SoftwareException, .vector = BP}, op);
}

Outcome int1(Cpu &cpu, const Op &op) {
  return deliver_software(cpu, {.type = EventType::PrivilegedSoftwareException, .vector = DB}, op);
}

Outcome into(Cpu &cpu, const Op &op) {
  if (!(rflags(cpu) & rflags::OF)) return Outcome::Next;
  return deliver_software(cpu, {.type = EventType::SoftwareException, .vector = OF}, op);
}

Outcome bound(Cpu &cpu, const Op &op) {
  if (!(op.flags & kOpMemory)) return raise(cpu, UD);
  u64 pair = 0;
  if (!read_operand(cpu, op, &pair, op.size * 2)) return Outcome::Fault;
  auto extend = [&](u64 value) -> i32 { return op.size == 2 ? static_cast<i16>(value) : static_cast<i32>(value); };
  i32 index = extend(read_register(cpu, op.reg, op.size));
  i32 lower = extend(pair), upper = extend(pair >> op.size * 8);
  return index < lower || index > upper ? raise(cpu, BR) : Outcome::Next;
}

Outcome undefined(Cpu &cpu, const Op &) { return raise(cpu, UD); }

} // namespace abyme::soft::system
