// Shifts and rotates.
#include "soft/interp/flags.hpp"
#include "soft/interp/forms.hpp"
#include "soft/interp/handlers.hpp"

namespace abyme::soft {
namespace {

#define ABYME_OPERATION(NAME, FUNCTION)                                                                                                        \
  struct NAME {                                                                                                                                \
    template <class T> [[gnu::always_inline]] static T apply(T a, u8 n, u64 &s) { return flags::FUNCTION<T>(a, n, s); }                        \
  };
ABYME_OPERATION(Rol, rol)
ABYME_OPERATION(Ror, ror)
ABYME_OPERATION(Rcl, rcl)
ABYME_OPERATION(Rcr, rcr)
ABYME_OPERATION(Shl, shl)
ABYME_OPERATION(Shr, shr)
ABYME_OPERATION(Sar, sar)
#undef ABYME_OPERATION

template <class T> constexpr u8 kCountMask = sizeof(T) == 8 ? 63 : 31;

template <class T, bool ByCl> [[gnu::always_inline]] inline u8 count_of(Cpu &cpu, const Op *op) {
  return static_cast<u8>((ByCl ? cpu.gpr[x86::RCX] : static_cast<u64>(op->imm)) & kCountMask<T>);
}

template <class O, class T, bool ByCl> const Op *shift_r(Cpu &cpu, const Op *op) {
  const u8 n = count_of<T, ByCl>(cpu, op);
  if (n != 0) [[likely]] set_reg<T>(cpu, op->rm, O::apply(reg<T>(cpu, op->rm), n, cpu.status));
  else set_reg<T>(cpu, op->rm, reg<T>(cpu, op->rm)); // a 32-bit one still zero-extends
  ABYME_NEXT(cpu, op);
}
template <class O, class T, bool ByCl> const Op *shift_m(Cpu &cpu, const Op *op) {
  const u8 n = count_of<T, ByCl>(cpu, op);
  const auto change = [&cpu, n](T a) { return n == 0 ? a : O::apply(a, n, cpu.status); };
  const bool ok = flat64(cpu, *op) ? modify_operand<Addressing::Flat64, T>(cpu, op, change) : modify_operand<Addressing::Any, T>(cpu, op, change);
  if (!ok) [[unlikely]] return leave_faulted(cpu, op);
  ABYME_NEXT(cpu, op);
}
template <class O, class T> Handler pick(const Op &op, bool by_cl) {
  if (op.flags & kOpMemory) return by_cl ? shift_m<O, T, true> : shift_m<O, T, false>;
  return by_cl ? shift_r<O, T, true> : shift_r<O, T, false>;
}
template <class O> Handler pick_size(const Op &op, bool by_cl) {
  switch (op.size) {
  case 1: return pick<O, u8>(op, by_cl);
  case 2: return pick<O, u16>(op, by_cl);
  case 4: return pick<O, u32>(op, by_cl);
  default: return pick<O, u64>(op, by_cl);
  }
}

template <class T, bool Left, bool ByCl> Outcome double_shift(Cpu &cpu, const Op &op) {
  const u8 n = count_of<T, ByCl>(cpu, &op);
  T a;
  u64 linear = 0;
  const bool memory = op.flags & kOpMemory;
  if (memory) {
    if (!operand_linear(cpu, op, sizeof(T), true, linear)) return Outcome::Fault;
    const Loaded old = load_for_write_slow(cpu, linear, sizeof(T));
    if (!old.ok) return Outcome::Fault;
    a = static_cast<T>(old.value);
  } else {
    a = reg<T>(cpu, op.rm);
  }
  u64 status = cpu.status;
  const T b = reg<T>(cpu, op.reg);
  if (n != 0) a = Left ? flags::shld<T>(a, b, n, status) : flags::shrd<T>(a, b, n, status);
  if (memory && !store_slow(cpu, linear, a, sizeof(T))) return Outcome::Fault;
  if (!memory) set_reg<T>(cpu, op.rm, a);
  cpu.status = status;
  return Outcome::Next;
}
template <bool Left, bool ByCl> SlowHandler pick_double(const Op &op) {
  return op.size == 2 ? double_shift<u16, Left, ByCl> : op.size == 4 ? double_shift<u32, Left, ByCl> : double_shift<u64, Left, ByCl>;
}

} // namespace

Handler shift_handler(const Cpu &, const Op &op, Shift operation, bool by_cl) {
  switch (operation) {
  case Shift::Rol: return pick_size<Rol>(op, by_cl);
  case Shift::Ror: return pick_size<Ror>(op, by_cl);
  case Shift::Rcl: return pick_size<Rcl>(op, by_cl);
  case Shift::Rcr: return pick_size<Rcr>(op, by_cl);
  case Shift::Shl: return pick_size<Shl>(op, by_cl);
  case Shift::Shr: return pick_size<Shr>(op, by_cl);
  case Shift::Sar: break;
  }
  return pick_size<Sar>(op, by_cl);
}

SlowHandler double_shift_handler(const Op &op, bool left, bool by_cl) {
  if (left) return by_cl ? pick_double<true, true>(op) : pick_double<true, false>(op);
  return by_cl ? pick_double<false, true>(op) : pick_double<false, false>(op);
}

} // namespace abyme::soft
