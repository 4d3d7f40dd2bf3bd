// MUL, IMUL, DIV, IDIV.
#include "soft/interp/flags.hpp"
#include "soft/interp/forms.hpp"
#include "soft/interp/handlers.hpp"

namespace abyme::soft {
namespace {

template <class T> [[gnu::always_inline]] inline Loaded source(Cpu &cpu, const Op *op) {
  if (!(op->flags & kOpMemory)) return {reg<T>(cpu, op->rm), true};
  return flat64(cpu, *op) ? load_operand<Addressing::Flat64, T>(cpu, op) : load_operand<Addressing::Any, T>(cpu, op);
}

template <class T> const Op *imul2(Cpu &cpu, const Op *op) {
  const Loaded b = source<T>(cpu, op);
  if (!b.ok) [[unlikely]] return leave_faulted(cpu, op);
  set_reg<T>(cpu, op->reg, flags::imul<T>(reg<T>(cpu, op->reg), static_cast<T>(b.value), cpu.status));
  ABYME_NEXT(cpu, op);
}
template <class T> const Op *imul3(Cpu &cpu, const Op *op) {
  const Loaded b = source<T>(cpu, op);
  if (!b.ok) [[unlikely]] return leave_faulted(cpu, op);
  set_reg<T>(cpu, op->reg, flags::imul<T>(static_cast<T>(b.value), static_cast<T>(op->imm), cpu.status));
  ABYME_NEXT(cpu, op);
}

// The double-width operand lies in AX, DX:AX, EDX:EAX or RDX:RAX.
template <class T> struct Halves {
  T low, high;
};
template <class T> Halves<T> accumulator(Cpu &cpu) {
  if constexpr (sizeof(T) == 1) return {reg<u8>(cpu, 0), reg<u8>(cpu, 1)};
  else return {reg<T>(cpu, x86::RAX * 8), reg<T>(cpu, x86::RDX * 8)};
}
template <class T> void set_accumulator(Cpu &cpu, Halves<T> h) {
  if constexpr (sizeof(T) == 1) {
    reg<u8>(cpu, 0) = h.low;
    reg<u8>(cpu, 1) = h.high;
  } else {
    set_reg<T>(cpu, x86::RAX * 8, h.low);
    set_reg<T>(cpu, x86::RDX * 8, h.high);
  }
}

template <class T> struct Double;
template <> struct Double<u8> {
  using Unsigned = u16;
  using Signed = i16;
};
template <> struct Double<u16> {
  using Unsigned = u32;
  using Signed = i32;
};
template <> struct Double<u32> {
  using Unsigned = u64;
  using Signed = i64;
};
template <> struct Double<u64> {
  using Unsigned = u128;
  using Signed = i128;
};

// CF and OF say that the high half matters; the other flags, undefined by the manual, keep their values.
void set_multiply_flags(Cpu &cpu, bool high_matters) {
  constexpr u64 kBoth = flags::kCarry | flags::kOverflow;
  cpu.status = (cpu.status & ~kBoth) | (high_matters ? kBoth : 0);
}

template <class T, bool Signed> Outcome multiply(Cpu &cpu, const Op &op) {
  using U = typename Double<T>::Unsigned;
  using S = typename Double<T>::Signed;
  const Loaded b = source<T>(cpu, &op);
  if (!b.ok) return Outcome::Fault;
  const T a = accumulator<T>(cpu).low;
  U product;
  bool high_matters;
  if constexpr (Signed) {
    using N = std::make_signed_t<T>;
    const S wide = static_cast<S>(static_cast<N>(a)) * static_cast<S>(static_cast<N>(b.value));
    product = static_cast<U>(wide);
    high_matters = wide != static_cast<N>(wide);
  } else {
    product = static_cast<U>(static_cast<U>(a) * static_cast<U>(static_cast<T>(b.value)));
    high_matters = product >> (8 * sizeof(T)) != 0;
  }
  set_accumulator<T>(cpu, {static_cast<T>(product), static_cast<T>(product >> (8 * sizeof(T)))});
  set_multiply_flags(cpu, high_matters);
  return Outcome::Next;
}

template <class T> Outcome divide(Cpu &cpu, const Op &op) {
  using U = typename Double<T>::Unsigned;
  const Loaded b = source<T>(cpu, &op);
  if (!b.ok) return Outcome::Fault;
  const T divisor = static_cast<T>(b.value);
  const Halves<T> h = accumulator<T>(cpu);
  if (divisor <= h.high) return raise(cpu, x86::DE); // zero, or a quotient that does not fit
  const U dividend = static_cast<U>(static_cast<U>(h.high) << (8 * sizeof(T)) | h.low);
  set_accumulator<T>(cpu, {static_cast<T>(dividend / divisor), static_cast<T>(dividend % divisor)});
  return Outcome::Next;
}

template <class T> Outcome divide_signed(Cpu &cpu, const Op &op) {
  using S = typename Double<T>::Signed;
  using U = typename Double<T>::Unsigned;
  using N = std::make_signed_t<T>;
  const Loaded b = source<T>(cpu, &op);
  if (!b.ok) return Outcome::Fault;
  const N divisor = static_cast<N>(b.value);
  if (divisor == 0) return raise(cpu, x86::DE);
  const Halves<T> h = accumulator<T>(cpu);
  const S dividend = static_cast<S>(static_cast<U>(h.high) << (8 * sizeof(T)) | h.low);
  constexpr S kLeast = static_cast<S>(static_cast<U>(1) << (16 * sizeof(T) - 1));
  if (dividend == kLeast && divisor == -1) return raise(cpu, x86::DE);
  const S quotient = dividend / divisor;
  if (quotient != static_cast<N>(quotient)) return raise(cpu, x86::DE);
  set_accumulator<T>(cpu, {static_cast<T>(quotient), static_cast<T>(dividend % divisor)});
  return Outcome::Next;
}

template <class T> SlowHandler pick_wide(Wide operation) {
  switch (operation) {
  case Wide::Mul: return multiply<T, false>;
  case Wide::Imul: return multiply<T, true>;
  case Wide::Div: return divide<T>;
  case Wide::Idiv: break;
  }
  return divide_signed<T>;
}

} // namespace

Handler imul2_handler(const Cpu &, const Op &op) { return op.size == 2 ? imul2<u16> : op.size == 4 ? imul2<u32> : imul2<u64>; }
Handler imul3_handler(const Cpu &, const Op &op) { return op.size == 2 ? imul3<u16> : op.size == 4 ? imul3<u32> : imul3<u64>; }

SlowHandler wide_handler(const Op &op, Wide operation) {
  switch (op.size) {
  case 1: return pick_wide<u8>(operation);
  case 2: return pick_wide<u16>(operation);
  case 4: return pick_wide<u32>(operation);
  default: return pick_wide<u64>(operation);
  }
}

} // namespace abyme::soft
