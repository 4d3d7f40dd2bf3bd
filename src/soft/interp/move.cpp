// MOV, MOVZX, MOVSX, LEA, XCHG, CMOVcc, SETcc, BSWAP, CBW and CWD families, XLAT.
#include "soft/interp/flags.hpp"
#include "soft/interp/forms.hpp"
#include "soft/interp/handlers.hpp"

namespace abyme::soft {
namespace {

template <class T> const Op *mov_rr(Cpu &cpu, const Op *op) {
  set_reg<T>(cpu, op->rm, reg<T>(cpu, op->reg));
  ABYME_NEXT(cpu, op);
}
template <class T> const Op *mov_ri(Cpu &cpu, const Op *op) {
  set_reg<T>(cpu, op->rm, static_cast<T>(op->imm));
  ABYME_NEXT(cpu, op);
}
template <class T, Addressing A> const Op *mov_rm(Cpu &cpu, const Op *op) {
  const Loaded v = load_operand<A, T>(cpu, op);
  if (!v.ok) [[unlikely]] return leave_faulted(cpu, op);
  set_reg<T>(cpu, op->reg, static_cast<T>(v.value));
  ABYME_NEXT(cpu, op);
}
template <class T, Addressing A> const Op *mov_mr(Cpu &cpu, const Op *op) {
  if (!store_operand<A, T>(cpu, op, reg<T>(cpu, op->reg))) [[unlikely]] return leave_faulted(cpu, op);
  ABYME_NEXT(cpu, op);
}
template <class T, Addressing A> const Op *mov_mi(Cpu &cpu, const Op *op) {
  if (!store_operand<A, T>(cpu, op, static_cast<T>(op->imm))) [[unlikely]] return leave_faulted(cpu, op);
  ABYME_NEXT(cpu, op);
}

template <class T> Handler pick_mov(const Cpu &cpu, const Op &op, Form form) {
  constexpr auto F = Addressing::Flat64, N = Addressing::Any;
  const bool flat = flat64(cpu, op);
  switch (form) {
  case Form::RR: return mov_rr<T>;
  case Form::RI: return mov_ri<T>;
  case Form::RM: return flat ? mov_rm<T, F> : mov_rm<T, N>;
  case Form::MR: return flat ? mov_mr<T, F> : mov_mr<T, N>;
  case Form::MI: break;
  }
  return flat ? mov_mi<T, F> : mov_mi<T, N>;
}

// MOV between the accumulator and an absolute address that does not fit a displacement: op.imm is the address.
template <class T, bool Store> Outcome mov_offset(Cpu &cpu, const Op &op) {
  u64 linear;
  if (!to_linear(cpu, op.segment, static_cast<u64>(op.imm), sizeof(T), Store, linear)) return Outcome::Fault;
  if constexpr (Store) return write_linear(cpu, linear, reg<T>(cpu, 0)) ? Outcome::Next : Outcome::Fault;
  T value;
  if (!read_linear(cpu, linear, value)) return Outcome::Fault;
  set_reg<T>(cpu, 0, value);
  return Outcome::Next;
}

template <class From, class To> const Op *extend_rr(Cpu &cpu, const Op *op) {
  set_reg<std::make_unsigned_t<To>>(cpu, op->reg, static_cast<std::make_unsigned_t<To>>(static_cast<To>(reg<From>(cpu, op->rm))));
  ABYME_NEXT(cpu, op);
}
template <class From, class To, Addressing A> const Op *extend_rm(Cpu &cpu, const Op *op) {
  using Bits = std::make_unsigned_t<From>;
  const Loaded v = load_operand<A, Bits>(cpu, op);
  if (!v.ok) [[unlikely]] return leave_faulted(cpu, op);
  const auto from = static_cast<From>(static_cast<Bits>(v.value));
  set_reg<std::make_unsigned_t<To>>(cpu, op->reg, static_cast<std::make_unsigned_t<To>>(static_cast<To>(from)));
  ABYME_NEXT(cpu, op);
}
template <class From, class To> Handler pick_extend(const Cpu &cpu, const Op &op) {
  if (!(op.flags & kOpMemory)) return extend_rr<From, To>;
  return flat64(cpu, op) ? extend_rm<From, To, Addressing::Flat64> : extend_rm<From, To, Addressing::Any>;
}
template <class U8, class U16, class U32, class To> Handler pick_extend_from(const Cpu &cpu, const Op &op, unsigned from) {
  if (from == 1) return pick_extend<U8, To>(cpu, op);
  return from == 2 ? pick_extend<U16, To>(cpu, op) : pick_extend<U32, To>(cpu, op);
}

template <class T> const Op *lea64(Cpu &cpu, const Op *op) {
  set_reg<T>(cpu, op->reg,
             static_cast<T>(reg<u64>(cpu, op->base) + (reg<u64>(cpu, op->index) << op->scale) + static_cast<i64>(op->disp)));
  ABYME_NEXT(cpu, op);
}
template <class T> const Op *lea_any(Cpu &cpu, const Op *op) {
  set_reg<T>(cpu, op->reg, static_cast<T>(effective_address(cpu, *op)));
  ABYME_NEXT(cpu, op);
}

template <class T> const Op *xchg_rr(Cpu &cpu, const Op *op) {
  const T a = reg<T>(cpu, op->rm), b = reg<T>(cpu, op->reg);
  set_reg<T>(cpu, op->rm, b);
  set_reg<T>(cpu, op->reg, a);
  ABYME_NEXT(cpu, op);
}
// XCHG with memory is locked with or without the prefix.
template <class T> const Op *xchg_mr(Cpu &cpu, const Op *op) {
  const T wanted = reg<T>(cpu, op->reg);
  T old = 0;
  if (!modify_locked<T>(cpu, op, [wanted, &old](T a) {
        old = a;
        return wanted;
      })) [[unlikely]]
    return leave_faulted(cpu, op);
  set_reg<T>(cpu, op->reg, old);
  ABYME_NEXT(cpu, op);
}

template <class T, u8 C> const Op *cmov_rr(Cpu &cpu, const Op *op) {
  const T from = reg<T>(cpu, op->rm), to = reg<T>(cpu, op->reg);
  set_reg<T>(cpu, op->reg, flags::holds<C>(cpu.status) ? from : to); // a 32-bit one zero-extends either way
  ABYME_NEXT(cpu, op);
}
template <class T, u8 C> const Op *cmov_rm(Cpu &cpu, const Op *op) {
  Loaded v = flat64(cpu, *op) ? load_operand<Addressing::Flat64, T>(cpu, op) : load_operand<Addressing::Any, T>(cpu, op);
  if (!v.ok) [[unlikely]] return leave_faulted(cpu, op);
  const T to = reg<T>(cpu, op->reg);
  set_reg<T>(cpu, op->reg, flags::holds<C>(cpu.status) ? static_cast<T>(v.value) : to);
  ABYME_NEXT(cpu, op);
}
template <u8 C> const Op *set_r(Cpu &cpu, const Op *op) {
  reg<u8>(cpu, op->rm) = flags::holds<C>(cpu.status);
  ABYME_NEXT(cpu, op);
}
template <u8 C> const Op *set_m(Cpu &cpu, const Op *op) {
  if (!store_operand<Addressing::Any, u8>(cpu, op, flags::holds<C>(cpu.status))) [[unlikely]] return leave_faulted(cpu, op);
  ABYME_NEXT(cpu, op);
}
template <u8 C> Handler pick_cmov(const Op &op) {
  const bool memory = op.flags & kOpMemory;
  switch (op.size) {
  case 2: return memory ? cmov_rm<u16, C> : cmov_rr<u16, C>;
  case 4: return memory ? cmov_rm<u32, C> : cmov_rr<u32, C>;
  default: return memory ? cmov_rm<u64, C> : cmov_rr<u64, C>;
  }
}

template <size_t... C> Handler cmov_by_condition(const Op &op, std::index_sequence<C...>) {
  using Pick = Handler (*)(const Op &);
  static constexpr Pick table[] = {pick_cmov<C>...};
  return table[op.condition](op);
}
template <size_t... C> Handler set_by_condition(const Op &op, std::index_sequence<C...>) {
  static constexpr Handler registers[] = {set_r<C>...};
  static constexpr Handler memory[] = {set_m<C>...};
  return (op.flags & kOpMemory ? memory : registers)[op.condition];
}

template <class T> const Op *bswap(Cpu &cpu, const Op *op) {
  if constexpr (sizeof(T) == 8) reg<u64>(cpu, op->rm) = __builtin_bswap64(reg<u64>(cpu, op->rm));
  else if constexpr (sizeof(T) == 4) set_reg<u32>(cpu, op->rm, __builtin_bswap32(reg<u32>(cpu, op->rm)));
  else reg<u16>(cpu, op->rm) = 0; // undefined by the manual; what processors do
  ABYME_NEXT(cpu, op);
}

// CBW, CWDE, CDQE.
template <class From, class To> const Op *widen(Cpu &cpu, const Op *op) {
  set_reg<std::make_unsigned_t<To>>(cpu, x86::RAX * 8, static_cast<std::make_unsigned_t<To>>(static_cast<To>(reg<From>(cpu, x86::RAX * 8))));
  ABYME_NEXT(cpu, op);
}
// CWD, CDQ, CQO.
template <class T> const Op *sign_to_dx(Cpu &cpu, const Op *op) {
  using Bits = std::make_unsigned_t<T>;
  set_reg<Bits>(cpu, x86::RDX * 8, static_cast<Bits>(reg<T>(cpu, x86::RAX * 8) < 0 ? -1 : 0));
  ABYME_NEXT(cpu, op);
}

// D6, in no table of the manual, is AL = CF ? -1 : 0 on every CPU outside of 64-bit mode.
Outcome salc(Cpu &cpu, const Op &) {
  reg<u8>(cpu, 0) = flags::holds<2>(cpu.status) ? 0xFF : 0;
  return Outcome::Next;
}

Outcome xlat(Cpu &cpu, const Op &op) {
  const u64 offset = cpu.gpr[x86::RBX] + (cpu.gpr[x86::RAX] & 0xFF);
  u64 linear;
  u8 value;
  const u64 masked = op.address_size == 8 ? offset : op.address_size == 4 ? static_cast<u32>(offset) : static_cast<u16>(offset);
  if (!to_linear(cpu, op.segment, masked, 1, false, linear) || !read_linear(cpu, linear, value)) return Outcome::Fault;
  reg<u8>(cpu, 0) = value;
  return Outcome::Next;
}

const Op *nop([[maybe_unused]] Cpu &cpu, const Op *op) { ABYME_NEXT(cpu, op); }

} // namespace

Handler mov_handler(const Cpu &cpu, const Op &op, Form form) {
  switch (op.size) {
  case 1: return pick_mov<u8>(cpu, op, form);
  case 2: return pick_mov<u16>(cpu, op, form);
  case 4: return pick_mov<u32>(cpu, op, form);
  default: return pick_mov<u64>(cpu, op, form);
  }
}

SlowHandler mov_offset_handler(unsigned size, bool store) {
  switch (size) {
  case 1: return store ? mov_offset<u8, true> : mov_offset<u8, false>;
  case 2: return store ? mov_offset<u16, true> : mov_offset<u16, false>;
  case 4: return store ? mov_offset<u32, true> : mov_offset<u32, false>;
  default: return store ? mov_offset<u64, true> : mov_offset<u64, false>;
  }
}

Handler extend_handler(const Cpu &cpu, const Op &op, unsigned from, bool sign) {
  if (sign) {
    if (op.size == 2) return pick_extend_from<i8, i16, i32, i16>(cpu, op, from);
    if (op.size == 4) return pick_extend_from<i8, i16, i32, i32>(cpu, op, from);
    return pick_extend_from<i8, i16, i32, i64>(cpu, op, from);
  }
  if (op.size == 2) return pick_extend_from<u8, u16, u32, u16>(cpu, op, from);
  if (op.size == 4) return pick_extend_from<u8, u16, u32, u32>(cpu, op, from);
  return pick_extend_from<u8, u16, u32, u64>(cpu, op, from);
}

Handler lea_handler(const Cpu &cpu, const Op &op) {
  const bool wide = op.address_size == 8 && cpu.code64();
  if (op.size == 2) return wide ? lea64<u16> : lea_any<u16>;
  if (op.size == 4) return wide ? lea64<u32> : lea_any<u32>;
  return wide ? lea64<u64> : lea_any<u64>;
}

Handler xchg_handler(const Op &op) {
  static constexpr BySize registers = {xchg_rr<u8>, xchg_rr<u16>, xchg_rr<u32>, xchg_rr<u64>};
  static constexpr BySize memory = {xchg_mr<u8>, xchg_mr<u16>, xchg_mr<u32>, xchg_mr<u64>};
  return (op.flags & kOpMemory ? memory : registers)[size_index(op.size)];
}

Handler cmov_handler(const Op &op) { return cmov_by_condition(op, std::make_index_sequence<16>{}); }
Handler setcc_handler(const Op &op) { return set_by_condition(op, std::make_index_sequence<16>{}); }

Handler bswap_handler(const Op &op) { return op.size == 8 ? bswap<u64> : op.size == 4 ? bswap<u32> : bswap<u16>; }

Handler widen_handler(const Op &op) {
  if (op.size == 2) return widen<i8, i16>;
  return op.size == 4 ? widen<i16, i32> : widen<i32, i64>;
}
Handler sign_to_dx_handler(const Op &op) { return op.size == 2 ? sign_to_dx<i16> : op.size == 4 ? sign_to_dx<i32> : sign_to_dx<i64>; }
SlowHandler salc_handler() { return salc; }
SlowHandler xlat_handler() { return xlat; }
Handler nop_handler() { return nop; }

} // namespace abyme::soft
