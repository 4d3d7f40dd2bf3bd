#pragma once
#include "soft/interp/forms.hpp"

// The choice of a handler for a decoded instruction, by what it does. The decoder's table (decode/table.cpp) calls these.
namespace abyme::soft {

// move.cpp
[[nodiscard]] Handler mov_handler(const Cpu &cpu, const Op &op, Form form);
[[nodiscard]] SlowHandler mov_offset_handler(unsigned size, bool store);
[[nodiscard]] Handler extend_handler(const Cpu &cpu, const Op &op, unsigned from, bool sign);
[[nodiscard]] Handler lea_handler(const Cpu &cpu, const Op &op);
[[nodiscard]] Handler xchg_handler(const Op &op);
[[nodiscard]] Handler cmov_handler(const Op &op);
[[nodiscard]] Handler setcc_handler(const Op &op);
[[nodiscard]] Handler bswap_handler(const Op &op);
[[nodiscard]] Handler widen_handler(const Op &op);
[[nodiscard]] Handler sign_to_dx_handler(const Op &op);
[[nodiscard]] SlowHandler salc_handler();
[[nodiscard]] SlowHandler xlat_handler();
[[nodiscard]] Handler nop_handler();

// unary.cpp
enum class Unary : u8 { Inc, Dec, Neg, Not };
[[nodiscard]] Handler unary_handler(const Cpu &cpu, const Op &op, Unary operation);
enum class FlagChange : u8 { Clc, Stc, Cmc, Cld, Std, Lahf, Sahf };
[[nodiscard]] Handler flag_handler(FlagChange change);
[[nodiscard]] SlowHandler access_flag_handler(bool on); // CLAC, STAC

// shift.cpp
enum class Shift : u8 { Rol, Ror, Rcl, Rcr, Shl, Shr, Sar };
[[nodiscard]] Handler shift_handler(const Cpu &cpu, const Op &op, Shift operation, bool by_cl);
[[nodiscard]] SlowHandler double_shift_handler(const Op &op, bool left, bool by_cl);

// multiply.cpp
[[nodiscard]] Handler imul2_handler(const Cpu &cpu, const Op &op);
[[nodiscard]] Handler imul3_handler(const Cpu &cpu, const Op &op);
enum class Wide : u8 { Mul, Imul, Div, Idiv };
[[nodiscard]] SlowHandler wide_handler(const Op &op, Wide operation);

// bits.cpp
enum class BitTest : u8 { Bt, Bts, Btr, Btc };
[[nodiscard]] Handler bit_test_handler(const Op &op, BitTest operation, bool immediate);
[[nodiscard]] Handler bit_scan_handler(const Cpu &cpu, const Op &op, bool reverse);
[[nodiscard]] SlowHandler xadd_handler(const Op &op);
[[nodiscard]] SlowHandler cmpxchg_handler(const Op &op);
[[nodiscard]] SlowHandler cmpxchg_wide_handler(const Op &op); // CMPXCHG8B, CMPXCHG16B

// branch.cpp
struct Link { // the blocks that a direct branch leads to, once known, where they lie in the branch's own page
  const CodePage *page; // the branch's own
  Block *taken;
  Block *not_taken;
};
// The fast handler, or nullptr where only the slow one serves. Jcc, JMP and CALL have a Link in op.data with the fast one.
[[nodiscard]] Handler jcc_handler(const Cpu &cpu, const Op &op);
[[nodiscard]] SlowHandler jcc_slow_handler(const Op &op);
[[nodiscard]] Handler jmp_handler(const Cpu &cpu, const Op &op);
[[nodiscard]] SlowHandler jmp_slow_handler();
[[nodiscard]] Handler call_handler(const Cpu &cpu, const Op &op);
[[nodiscard]] SlowHandler call_slow_handler();
[[nodiscard]] Handler ret_handler(const Cpu &cpu, const Op &op);
[[nodiscard]] SlowHandler ret_slow_handler();
[[nodiscard]] Handler jmp_indirect_handler(const Cpu &cpu, const Op &op);
[[nodiscard]] SlowHandler jmp_indirect_slow_handler();
[[nodiscard]] Handler call_indirect_handler(const Cpu &cpu, const Op &op);
[[nodiscard]] SlowHandler call_indirect_slow_handler();
enum class Loop : u8 { Loop, Loope, Loopne, Jcxz };
[[nodiscard]] SlowHandler loop_handler(Loop kind);

// stack.cpp: the fast handler, or nullptr where only the slow one serves
[[nodiscard]] Handler push_handler(const Cpu &cpu, const Op &op, Form form);
[[nodiscard]] SlowHandler push_slow_handler(Form form);
[[nodiscard]] Handler pop_handler(const Cpu &cpu, const Op &op);
[[nodiscard]] SlowHandler pop_slow_handler(const Op &op);
[[nodiscard]] SlowHandler pusha_handler();
[[nodiscard]] SlowHandler popa_handler();
[[nodiscard]] SlowHandler enter_handler();
[[nodiscard]] Handler leave_handler(const Cpu &cpu, const Op &op);
[[nodiscard]] SlowHandler leave_slow_handler();

// string.cpp, io.cpp
enum class StringOp : u8 { Movs, Stos, Lods, Scas, Cmps };
[[nodiscard]] SlowHandler string_handler(StringOp operation);
[[nodiscard]] SlowHandler in_handler();
[[nodiscard]] SlowHandler out_handler();
[[nodiscard]] SlowHandler ins_handler();
[[nodiscard]] SlowHandler outs_handler();

} // namespace abyme::soft
