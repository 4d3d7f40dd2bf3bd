#pragma once
#include "base/int.hpp"

// Arithmetic done by the host's own instructions, with the flags that they leave, packed by LAHF and SETO (Cpu::status). Flags that the
// manual leaves undefined are whatever the host makes of them.
namespace abyme::soft::flags {

// Instructions that read no flags and write all six.
#define ABYME_BINARY(NAME, INSTRUCTION)                                                                                                        \
  template <class T> [[gnu::always_inline]] inline T NAME(T a, T b, u64 &status) {                                                             \
    u16 ax;                                                                                                                                    \
    asm(INSTRUCTION " %2, %0\n\tlahf\n\tseto %%al" : "+q"(a), "=&a"(ax) : "q"(b) : "cc");                                                      \
    status = ax;                                                                                                                               \
    return a;                                                                                                                                  \
  }
ABYME_BINARY(add, "add")
ABYME_BINARY(sub, "sub")
ABYME_BINARY(bit_and, "and")
ABYME_BINARY(bit_or, "or")
ABYME_BINARY(bit_xor, "xor")
#undef ABYME_BINARY

// With the carry of `status` coming in.
#define ABYME_CARRY(NAME, INSTRUCTION)                                                                                                         \
  template <class T> [[gnu::always_inline]] inline T NAME(T a, T b, u64 &status) {                                                             \
    u16 ax;                                                                                                                                    \
    asm("btl $8, %k3\n\t" INSTRUCTION " %2, %0\n\tlahf\n\tseto %%al" : "+&q"(a), "=&a"(ax) : "q"(b), "r"(static_cast<u32>(status)) : "cc");    \
    status = ax;                                                                                                                               \
    return a;                                                                                                                                  \
  }
ABYME_CARRY(adc, "adc")
ABYME_CARRY(sbb, "sbb")
#undef ABYME_CARRY

// One operand; INC and DEC keep the carry.
#define ABYME_UNARY(NAME, INSTRUCTION)                                                                                                         \
  template <class T> [[gnu::always_inline]] inline T NAME(T a, u64 &status) {                                                                  \
    u16 ax;                                                                                                                                    \
    if constexpr (sizeof(T) == 1)                                                                                                              \
      asm("btl $8, %k2\n\t" INSTRUCTION "b %0\n\tlahf\n\tseto %%al" : "+&q"(a), "=&a"(ax) : "r"(static_cast<u32>(status)) : "cc");              \
    else if constexpr (sizeof(T) == 2)                                                                                                         \
      asm("btl $8, %k2\n\t" INSTRUCTION "w %0\n\tlahf\n\tseto %%al" : "+&q"(a), "=&a"(ax) : "r"(static_cast<u32>(status)) : "cc");              \
    else if constexpr (sizeof(T) == 4)                                                                                                         \
      asm("btl $8, %k2\n\t" INSTRUCTION "l %0\n\tlahf\n\tseto %%al" : "+&q"(a), "=&a"(ax) : "r"(static_cast<u32>(status)) : "cc");              \
    else                                                                                                                                       \
      asm("btl $8, %k2\n\t" INSTRUCTION "q %0\n\tlahf\n\tseto %%al" : "+&q"(a), "=&a"(ax) : "r"(static_cast<u32>(status)) : "cc");              \
    status = ax;                                                                                                                               \
    return a;                                                                                                                                  \
  }
ABYME_UNARY(inc, "inc")
ABYME_UNARY(dec, "dec")
ABYME_UNARY(neg, "neg")
#undef ABYME_UNARY

// Shifts and rotates by a count that the caller has masked; a count of 0 changes no flag. All flags come in, for those that a rotate keeps.
#define ABYME_SHIFT(NAME, INSTRUCTION)                                                                                                         \
  template <class T> [[gnu::always_inline]] inline T NAME(T a, u8 count, u64 &status) {                                                        \
    u16 ax = static_cast<u16>(status);                                                                                                         \
    asm("addb $127, %%al\n\tsahf\n\t" INSTRUCTION " %%cl, %0\n\tlahf\n\tseto %%al" : "+&q"(a), "+&a"(ax) : "c"(count) : "cc");                 \
    status = ax;                                                                                                                               \
    return a;                                                                                                                                  \
  }
ABYME_SHIFT(shl, "shl")
ABYME_SHIFT(shr, "shr")
ABYME_SHIFT(sar, "sar")
ABYME_SHIFT(rol, "rol")
ABYME_SHIFT(ror, "ror")
ABYME_SHIFT(rcl, "rcl")
ABYME_SHIFT(rcr, "rcr")
#undef ABYME_SHIFT

#define ABYME_DOUBLE_SHIFT(NAME, INSTRUCTION)                                                                                                  \
  template <class T> [[gnu::always_inline]] inline T NAME(T a, T b, u8 count, u64 &status) {                                                   \
    u16 ax = static_cast<u16>(status);                                                                                                         \
    asm("addb $127, %%al\n\tsahf\n\t" INSTRUCTION " %%cl, %3, %0\n\tlahf\n\tseto %%al" : "+&r"(a), "+&a"(ax) : "c"(count), "r"(b) : "cc");     \
    status = ax;                                                                                                                               \
    return a;                                                                                                                                  \
  }
ABYME_DOUBLE_SHIFT(shld, "shld")
ABYME_DOUBLE_SHIFT(shrd, "shrd")
#undef ABYME_DOUBLE_SHIFT

// IMUL r, r/m: flags as the host leaves them.
template <class T> [[gnu::always_inline]] inline T imul(T a, T b, u64 &status) {
  u16 ax = static_cast<u16>(status);
  asm("addb $127, %%al\n\tsahf\n\timul %2, %0\n\tlahf\n\tseto %%al" : "+&r"(a), "+&a"(ax) : "r"(b) : "cc");
  status = ax;
  return a;
}

// BSF, BSR: the destination keeps its value where the source is zero, as every processor does.
template <class T> [[gnu::always_inline]] inline T bsf(T to, T from, u64 &status) {
  u16 ax = static_cast<u16>(status);
  asm("addb $127, %%al\n\tsahf\n\tbsf %2, %0\n\tlahf\n\tseto %%al" : "+&r"(to), "+&a"(ax) : "r"(from) : "cc");
  status = ax;
  return to;
}
template <class T> [[gnu::always_inline]] inline T bsr(T to, T from, u64 &status) {
  u16 ax = static_cast<u16>(status);
  asm("addb $127, %%al\n\tsahf\n\tbsr %2, %0\n\tlahf\n\tseto %%al" : "+&r"(to), "+&a"(ax) : "r"(from) : "cc");
  status = ax;
  return to;
}

constexpr u64 kCarry = 1 << 8, kZero = 1 << 14, kSign = 1 << 15, kOverflow = 1;

// The sixteen conditions of Jcc, SETcc and CMOVcc, by the low bits of their opcode.
template <u8 Condition> [[gnu::always_inline]] constexpr bool holds(u64 status) {
  constexpr u8 kind = Condition >> 1;
  bool yes;
  if constexpr (kind == 0) yes = status & kOverflow;
  else if constexpr (kind == 1) yes = status & kCarry;
  else if constexpr (kind == 2) yes = status & kZero;
  else if constexpr (kind == 3) yes = status & (kCarry | kZero);
  else if constexpr (kind == 4) yes = status & kSign;
  else if constexpr (kind == 5) yes = status & 1 << 10;
  else if constexpr (kind == 6) yes = (status >> 15 ^ status) & 1;
  else yes = ((status >> 15 ^ status) & 1) || (status & kZero);
  return Condition & 1 ? !yes : yes;
}

} // namespace abyme::soft::flags
