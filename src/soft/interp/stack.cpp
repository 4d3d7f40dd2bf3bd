// PUSH, POP, PUSHA, POPA, ENTER, LEAVE.
#include "soft/interp/stack.hpp"
#include "soft/interp/handlers.hpp"

namespace abyme::soft {
namespace {

using namespace x86;

template <class T> [[gnu::always_inline]] inline bool push64(Cpu &cpu, T value) {
  const u64 top = cpu.gpr[RSP] - sizeof(T);
  if (!store<T>(cpu, top, value)) [[unlikely]] return false;
  cpu.gpr[RSP] = top;
  return true;
}

template <class T> const Op *push_r64(Cpu &cpu, const Op *op) {
  if (!push64<T>(cpu, reg<T>(cpu, op->rm))) [[unlikely]] return leave_faulted(cpu, op);
  ABYME_NEXT(cpu, op);
}
const Op *push_i64(Cpu &cpu, const Op *op) {
  if (!push64<u64>(cpu, static_cast<u64>(op->imm))) [[unlikely]] return leave_faulted(cpu, op);
  ABYME_NEXT(cpu, op);
}
const Op *push_m64(Cpu &cpu, const Op *op) {
  const Loaded v = load<u64>(cpu, address64(cpu, op));
  if (!v.ok) [[unlikely]] return leave_faulted(cpu, op);
  if (!push64<u64>(cpu, v.value)) [[unlikely]] {
    // The push is through SS whatever the operand's segment was.
    if (cpu.fault.non_canonical) (void)raise(cpu, x86::SS_, 0);
    return leave_faulted(cpu, op);
  }
  ABYME_NEXT(cpu, op);
}
const Op *pop_r64(Cpu &cpu, const Op *op) {
  const Loaded v = load<u64>(cpu, cpu.gpr[RSP]);
  if (!v.ok) [[unlikely]] return leave_faulted(cpu, op);
  cpu.gpr[RSP] += 8;
  reg<u64>(cpu, op->rm) = v.value;
  ABYME_NEXT(cpu, op);
}

template <Form F> Outcome push_any(Cpu &cpu, const Op &op) {
  u64 value = static_cast<u64>(op.imm);
  if constexpr (F == Form::RR) value = reg<u64>(cpu, op.rm);
  if constexpr (F == Form::MR)
    if (!read_operand(cpu, op, &value, op.size)) return Outcome::Fault;
  return push(cpu, value, op.size) ? Outcome::Next : Outcome::Fault;
}

Outcome pop_register(Cpu &cpu, const Op &op) {
  u64 value = 0;
  if (!peek(cpu, 0, value, op.size)) return Outcome::Fault;
  move_stack_pointer(cpu, op.size);
  if (op.size == 2) reg<u16>(cpu, op.rm) = static_cast<u16>(value);
  else reg<u64>(cpu, op.rm) = value; // 4: already zero-extended
  return Outcome::Next;
}

// The address is computed with the stack pointer already moved (SDM 2B POP).
Outcome pop_memory(Cpu &cpu, const Op &op) {
  u64 value = 0;
  if (!peek(cpu, 0, value, op.size)) return Outcome::Fault;
  const u64 before = cpu.gpr[RSP];
  move_stack_pointer(cpu, op.size);
  if (write_operand(cpu, op, &value, op.size)) return Outcome::Next;
  cpu.gpr[RSP] = before;
  return Outcome::Fault;
}

Outcome pusha(Cpu &cpu, const Op &op) {
  static constexpr u8 order[] = {RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI};
  const u64 before = cpu.gpr[RSP];
  u64 values[8];
  for (unsigned i = 0; i < 8; i++) values[i] = cpu.gpr[order[i]];
  for (const u64 value : values)
    if (!push(cpu, value, op.size)) {
      cpu.gpr[RSP] = before;
      return Outcome::Fault;
    }
  return Outcome::Next;
}

Outcome popa(Cpu &cpu, const Op &op) {
  static constexpr u8 order[] = {RDI, RSI, RBP, RSP, RBX, RDX, RCX, RAX};
  u64 values[8] = {};
  for (unsigned i = 0; i < 8; i++)
    if (!peek(cpu, i * op.size, values[i], op.size)) return Outcome::Fault;
  for (unsigned i = 0; i < 8; i++) {
    if (order[i] == RSP) continue;
    if (op.size == 2) reg<u16>(cpu, static_cast<u8>(order[i] * 8)) = static_cast<u16>(values[i]);
    else cpu.gpr[order[i]] = values[i];
  }
  move_stack_pointer(cpu, 8 * op.size);
  return Outcome::Next;
}

void set_sized(Cpu &cpu, Gpr r, u64 value, unsigned size) {
  if (size == 2) reg<u16>(cpu, static_cast<u8>(r * 8)) = static_cast<u16>(value);
  else cpu.gpr[r] = size == 4 ? static_cast<u32>(value) : value;
}

// The frame pointer is a stack address: its width is the stack's (SDM 2A ENTER).
Outcome enter(Cpu &cpu, const Op &op) {
  const u64 rsp = cpu.gpr[RSP], rbp = cpu.gpr[RBP];
  const unsigned level = op.reg_index & 31;
  const auto fail = [&] {
    cpu.gpr[RSP] = rsp;
    cpu.gpr[RBP] = rbp;
    return Outcome::Fault;
  };
  if (!push(cpu, rbp, op.size)) return fail();
  const u64 frame = cpu.gpr[RSP];
  for (unsigned i = 1; i < level; i++) {
    u64 display = 0;
    const u64 at = (rbp - static_cast<u64>(i) * op.size) & stack_mask(cpu);
    u64 linear;
    if (!to_linear(cpu, SS, at, op.size, false, linear) || !read_linear(cpu, linear, &display, op.size)) return fail();
    if (!push(cpu, display, op.size)) return fail();
  }
  if (level > 0 && !push(cpu, frame, op.size)) return fail();
  const u64 mask = stack_mask(cpu);
  const u64 top = (cpu.gpr[RSP] - static_cast<u16>(op.imm)) & mask;
  u64 linear;
  if (!to_linear(cpu, SS, top, 1, true, linear) || !probe_write(cpu, linear, 1)) return fail();
  set_sized(cpu, RBP, frame, op.size);
  cpu.gpr[RSP] = (cpu.gpr[RSP] & ~mask) | top;
  return Outcome::Next;
}

Outcome leave(Cpu &cpu, const Op &op) {
  const u64 before = cpu.gpr[RSP], mask = stack_mask(cpu);
  cpu.gpr[RSP] = (before & ~mask) | (cpu.gpr[RBP] & mask);
  u64 value = 0;
  if (!peek(cpu, 0, value, op.size)) {
    cpu.gpr[RSP] = before;
    return Outcome::Fault;
  }
  move_stack_pointer(cpu, op.size);
  set_sized(cpu, RBP, value, op.size);
  return Outcome::Next;
}

const Op *leave64(Cpu &cpu, const Op *op) {
  const Loaded v = load<u64>(cpu, cpu.gpr[RBP]);
  if (!v.ok) [[unlikely]] return leave_faulted(cpu, op);
  cpu.gpr[RSP] = cpu.gpr[RBP] + 8;
  cpu.gpr[RBP] = v.value;
  ABYME_NEXT(cpu, op);
}

} // namespace

u64 stack_mask(const Cpu &cpu) { return cpu.code64() ? ~0ull : cpu.mode & kModeStack32 ? 0xFFFFFFFFull : 0xFFFFull; }

void move_stack_pointer(Cpu &cpu, i64 by) {
  const u64 mask = stack_mask(cpu);
  const u64 top = (cpu.gpr[RSP] + static_cast<u64>(by)) & mask;
  cpu.gpr[RSP] = mask == 0xFFFF ? (cpu.gpr[RSP] & ~mask) | top : top;
}

bool push(Cpu &cpu, u64 value, unsigned size) {
  const u64 top = (cpu.gpr[RSP] - size) & stack_mask(cpu);
  u64 linear;
  if (!to_linear(cpu, SS, top, size, true, linear) || !write_linear(cpu, linear, &value, size)) return false;
  move_stack_pointer(cpu, -static_cast<i64>(size));
  return true;
}

bool peek(Cpu &cpu, u64 offset, u64 &value, unsigned size) {
  const u64 at = (cpu.gpr[RSP] + offset) & stack_mask(cpu);
  u64 linear;
  value = 0;
  return to_linear(cpu, SS, at, size, false, linear) && read_linear(cpu, linear, &value, size);
}

Handler push_handler(const Cpu &cpu, const Op &op, Form form) {
  if (!cpu.code64() || op.size == 2 || (form == Form::MR && op.address_size != 8)) {
    if (cpu.code64() && op.size == 2 && form == Form::RR) return push_r64<u16>;
    return nullptr;
  }
  return form == Form::RR ? push_r64<u64> : form == Form::RI ? push_i64 : push_m64;
}
SlowHandler push_slow_handler(Form form) {
  return form == Form::RR ? push_any<Form::RR> : form == Form::RI ? push_any<Form::RI> : push_any<Form::MR>;
}
Handler pop_handler(const Cpu &cpu, const Op &op) {
  return cpu.code64() && op.size == 8 && !(op.flags & kOpMemory) ? pop_r64 : nullptr;
}
SlowHandler pop_slow_handler(const Op &op) { return op.flags & kOpMemory ? pop_memory : pop_register; }
SlowHandler pusha_handler() { return pusha; }
SlowHandler popa_handler() { return popa; }
SlowHandler enter_handler() { return enter; }
Handler leave_handler(const Cpu &cpu, const Op &op) { return cpu.code64() && op.size == 8 ? leave64 : nullptr; }
SlowHandler leave_slow_handler() { return leave; }

} // namespace abyme::soft
