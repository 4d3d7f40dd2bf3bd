// ADD, OR, ADC, SBB, AND, SUB, XOR, CMP, TEST: every form, size and way to address memory.
#include "soft/interp/alu.hpp"
#include "soft/interp/flags.hpp"
#include "soft/interp/forms.hpp"

namespace abyme::soft {
namespace {

// What an operation computes; kWrites: it stores its result.
#define ABYME_OPERATION(NAME, FUNCTION, WRITES)                                                                                                \
  struct NAME {                                                                                                                                \
    static constexpr bool kWrites = WRITES;                                                                                                    \
    template <class T> [[gnu::always_inline]] static T apply(T a, T b, u64 &status) { return flags::FUNCTION<T>(a, b, status); }               \
  };
ABYME_OPERATION(Add, add, true)
ABYME_OPERATION(Or, bit_or, true)
ABYME_OPERATION(Adc, adc, true)
ABYME_OPERATION(Sbb, sbb, true)
ABYME_OPERATION(And, bit_and, true)
ABYME_OPERATION(Sub, sub, true)
ABYME_OPERATION(Xor, bit_xor, true)
ABYME_OPERATION(Cmp, sub, false)
ABYME_OPERATION(Test, bit_and, false)
#undef ABYME_OPERATION

template <class O, class T> const Op *alu_rr(Cpu &cpu, const Op *op) {
  const T r = O::apply(reg<T>(cpu, op->rm), reg<T>(cpu, op->reg), cpu.status);
  if constexpr (O::kWrites) set_reg<T>(cpu, op->rm, r);
  ABYME_NEXT(cpu, op);
}

template <class O, class T> const Op *alu_ri(Cpu &cpu, const Op *op) {
  const T r = O::apply(reg<T>(cpu, op->rm), static_cast<T>(op->imm), cpu.status);
  if constexpr (O::kWrites) set_reg<T>(cpu, op->rm, r);
  ABYME_NEXT(cpu, op);
}

template <class O, class T, Addressing A> const Op *alu_rm(Cpu &cpu, const Op *op) {
  const Loaded b = load_operand<A, T>(cpu, op);
  if (!b.ok) [[unlikely]] return leave_faulted(cpu, op);
  const T r = O::apply(reg<T>(cpu, op->reg), static_cast<T>(b.value), cpu.status);
  if constexpr (O::kWrites) set_reg<T>(cpu, op->reg, r);
  ABYME_NEXT(cpu, op);
}

template <class O, class T, Addressing A> [[gnu::always_inline]] inline bool to_memory(Cpu &cpu, const Op *op, T b) {
  if constexpr (O::kWrites) {
    return modify_operand<A, T>(cpu, op, [&cpu, b](T a) { return O::apply(a, b, cpu.status); });
  } else {
    const Loaded a = load_operand<A, T>(cpu, op);
    if (a.ok) [[likely]] (void)O::apply(static_cast<T>(a.value), b, cpu.status);
    return a.ok;
  }
}

template <class O, class T, Addressing A> const Op *alu_mr(Cpu &cpu, const Op *op) {
  if (!to_memory<O, T, A>(cpu, op, reg<T>(cpu, op->reg))) [[unlikely]] return leave_faulted(cpu, op);
  ABYME_NEXT(cpu, op);
}

template <class O, class T, Addressing A> const Op *alu_mi(Cpu &cpu, const Op *op) {
  if (!to_memory<O, T, A>(cpu, op, static_cast<T>(op->imm))) [[unlikely]] return leave_faulted(cpu, op);
  ABYME_NEXT(cpu, op);
}

template <class O, class T, bool Immediate> const Op *alu_locked(Cpu &cpu, const Op *op) {
  const T b = Immediate ? static_cast<T>(op->imm) : reg<T>(cpu, op->reg);
  if (!modify_locked<T>(cpu, op, [&cpu, b](T a) { return O::apply(a, b, cpu.status); })) [[unlikely]] return leave_faulted(cpu, op);
  ABYME_NEXT(cpu, op);
}

template <class O, class T> Handler pick(const Cpu &cpu, const Op &op, Form form) {
  const bool flat = flat64(cpu, op);
  constexpr auto F = Addressing::Flat64, N = Addressing::Any;
  if (op.flags & kOpLock) return form == Form::MR ? alu_locked<O, T, false> : alu_locked<O, T, true>;
  switch (form) {
  case Form::RR: return alu_rr<O, T>;
  case Form::RI: return alu_ri<O, T>;
  case Form::RM: return flat ? alu_rm<O, T, F> : alu_rm<O, T, N>;
  case Form::MR: return flat ? alu_mr<O, T, F> : alu_mr<O, T, N>;
  case Form::MI: break;
  }
  return flat ? alu_mi<O, T, F> : alu_mi<O, T, N>;
}

template <class O> Handler pick_size(const Cpu &cpu, const Op &op, Form form) {
  switch (op.size) {
  case 1: return pick<O, u8>(cpu, op, form);
  case 2: return pick<O, u16>(cpu, op, form);
  case 4: return pick<O, u32>(cpu, op, form);
  default: return pick<O, u64>(cpu, op, form);
  }
}

// XOR r, r and SUB r, r of a register with itself, the usual way to zero it.
template <class T> const Op *zero(Cpu &cpu, const Op *op) {
  set_reg<T>(cpu, op->rm, 0);
  cpu.status = flags::kZero | 1 << 10;
  ABYME_NEXT(cpu, op);
}

} // namespace

Handler alu_handler(const Cpu &cpu, const Op &op, Alu operation, Form form) {
  if (form == Form::RR && op.rm == op.reg && (operation == Alu::Xor || operation == Alu::Sub)) {
    if (op.size == 4) return zero<u32>;
    if (op.size == 8) return zero<u64>;
  }
  switch (operation) {
  case Alu::Add: return pick_size<Add>(cpu, op, form);
  case Alu::Or: return pick_size<Or>(cpu, op, form);
  case Alu::Adc: return pick_size<Adc>(cpu, op, form);
  case Alu::Sbb: return pick_size<Sbb>(cpu, op, form);
  case Alu::And: return pick_size<And>(cpu, op, form);
  case Alu::Sub: return pick_size<Sub>(cpu, op, form);
  case Alu::Xor: return pick_size<Xor>(cpu, op, form);
  case Alu::Cmp: return pick_size<Cmp>(cpu, op, form);
  case Alu::Test: break;
  }
  return pick_size<Test>(cpu, op, form);
}

} // namespace abyme::soft
