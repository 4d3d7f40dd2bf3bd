// INC, DEC, NEG, NOT, and the instructions that change flags alone.
#include "soft/interp/flags.hpp"
#include "soft/interp/forms.hpp"
#include "soft/interp/handlers.hpp"

namespace abyme::soft {
namespace {

struct Inc {
  template <class T> [[gnu::always_inline]] static T apply(T a, u64 &s) { return flags::inc<T>(a, s); }
};
struct Dec {
  template <class T> [[gnu::always_inline]] static T apply(T a, u64 &s) { return flags::dec<T>(a, s); }
};
struct Neg {
  template <class T> [[gnu::always_inline]] static T apply(T a, u64 &s) { return flags::neg<T>(a, s); }
};
struct Not {
  template <class T> [[gnu::always_inline]] static T apply(T a, u64 &) { return static_cast<T>(~a); }
};

template <class O, class T> const Op *unary_r(Cpu &cpu, const Op *op) {
  set_reg<T>(cpu, op->rm, O::apply(reg<T>(cpu, op->rm), cpu.status));
  ABYME_NEXT(cpu, op);
}
template <class O, class T, Addressing A> const Op *unary_m(Cpu &cpu, const Op *op) {
  if (!modify_operand<A, T>(cpu, op, [&cpu](T a) { return O::apply(a, cpu.status); })) [[unlikely]] return leave_faulted(cpu, op);
  ABYME_NEXT(cpu, op);
}
template <class O, class T> const Op *unary_locked(Cpu &cpu, const Op *op) {
  if (!modify_locked<T>(cpu, op, [&cpu](T a) { return O::apply(a, cpu.status); })) [[unlikely]] return leave_faulted(cpu, op);
  ABYME_NEXT(cpu, op);
}
template <class O, class T> Handler pick(const Cpu &cpu, const Op &op) {
  if (!(op.flags & kOpMemory)) return unary_r<O, T>;
  if (op.flags & kOpLock) return unary_locked<O, T>;
  return flat64(cpu, op) ? unary_m<O, T, Addressing::Flat64> : unary_m<O, T, Addressing::Any>;
}
template <class O> Handler pick_size(const Cpu &cpu, const Op &op) {
  switch (op.size) {
  case 1: return pick<O, u8>(cpu, op);
  case 2: return pick<O, u16>(cpu, op);
  case 4: return pick<O, u32>(cpu, op);
  default: return pick<O, u64>(cpu, op);
  }
}

template <FlagChange C> const Op *change_flags(Cpu &cpu, const Op *op) {
  constexpr u64 kStatusByAh = 0xD5;
  if constexpr (C == FlagChange::Clc) cpu.status &= ~flags::kCarry;
  if constexpr (C == FlagChange::Stc) cpu.status |= flags::kCarry;
  if constexpr (C == FlagChange::Cmc) cpu.status ^= flags::kCarry;
  if constexpr (C == FlagChange::Cld) cpu.rflags_rest &= ~x86::rflags::DF;
  if constexpr (C == FlagChange::Std) cpu.rflags_rest |= x86::rflags::DF;
  if constexpr (C == FlagChange::Lahf) reg<u8>(cpu, 1) = static_cast<u8>((cpu.status >> 8 & kStatusByAh) | 2);
  if constexpr (C == FlagChange::Sahf) cpu.status = (cpu.status & flags::kOverflow) | (reg<u8>(cpu, 1) & kStatusByAh) << 8;
  ABYME_NEXT(cpu, op);
}

// CLAC and STAC: the one flag that translations depend on (SDM 3A §4.6.1).
template <bool On> Outcome access_flag(Cpu &cpu, const Op &) {
  if (cpu.cpl != 0 || !cpu.profile->has(x86::Feature::smap)) return raise(cpu, x86::UD);
  cpu.rflags_rest = On ? cpu.rflags_rest | x86::rflags::AC : cpu.rflags_rest & ~x86::rflags::AC;
  mmu::select_context(cpu);
  return Outcome::Next;
}

} // namespace

Handler unary_handler(const Cpu &cpu, const Op &op, Unary operation) {
  switch (operation) {
  case Unary::Inc: return pick_size<Inc>(cpu, op);
  case Unary::Dec: return pick_size<Dec>(cpu, op);
  case Unary::Neg: return pick_size<Neg>(cpu, op);
  case Unary::Not: break;
  }
  return pick_size<Not>(cpu, op);
}

Handler flag_handler(FlagChange change) {
  static constexpr Handler table[] = {
      change_flags<FlagChange::Clc>, change_flags<FlagChange::Stc>,  change_flags<FlagChange::Cmc>,  change_flags<FlagChange::Cld>,
      change_flags<FlagChange::Std>, change_flags<FlagChange::Lahf>, change_flags<FlagChange::Sahf>,
  };
  return table[static_cast<u8>(change)];
}

SlowHandler access_flag_handler(bool on) { return on ? access_flag<true> : access_flag<false>; }

} // namespace abyme::soft
