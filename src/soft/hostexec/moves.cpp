#include "soft/hostexec/moves.hpp"
#include "soft/mmu/fast.hpp"
#include <cstring>

namespace abyme::soft::hostexec {
namespace {

// How a move treats its destination register and which gate it passes.
struct Legacy {
  static constexpr u8 kGates = kGateSse;
  static constexpr bool kVex = false;
};
struct Vex {
  static constexpr u8 kGates = kGateAvx;
  static constexpr bool kVex = true;
};

template <unsigned Size> [[gnu::always_inline]] inline void copy(u8 *to, const u8 *from) {
  __builtin_memcpy(to, from, Size);
}

// Zeroes what a move of Size bytes into register n leaves of it: the rest of the XMM register, and with VEX the upper
// half.
template <class Form, unsigned Size> [[gnu::always_inline]] inline void clear_rest(u8 *reg) {
  constexpr unsigned kEnd = Form::kVex ? 32 : 16;
  if constexpr (Size < kEnd) __builtin_memset(reg + Size, 0, kEnd - Size);
}

template <class Form, unsigned Size, bool Aligned> const Op *load_vector(Cpu &cpu, const Op *op) {
  const u64 linear = address64(cpu, op);
  const u8 *p = probe_tlb_read(cpu, linear, Size);
  if (cpu.gates & Form::kGates || !p || (Aligned && linear & (Size - 1))) [[unlikely]]
    return run_memory(cpu, op);
  u8 *reg = cpu.ymm[op->reg_index];
  copy<Size>(reg, p);
  clear_rest<Form, Size>(reg);
  ABYME_NEXT(cpu, op);
}

template <class Form, unsigned Size, bool Aligned> const Op *store_vector(Cpu &cpu, const Op *op) {
  const u64 linear = address64(cpu, op);
  u8 *p = probe_tlb_write(cpu, linear, Size);
  if (cpu.gates & Form::kGates || !p || (Aligned && linear & (Size - 1))) [[unlikely]]
    return run_memory(cpu, op);
  copy<Size>(p, cpu.ymm[op->reg_index]);
  ABYME_NEXT(cpu, op);
}

// reg_index <- condition (the register numbers).
template <class Form, unsigned Size> const Op *move_vector(Cpu &cpu, const Op *op) {
  if (cpu.gates & Form::kGates) [[unlikely]]
    return run_registers(cpu, op);
  u8 *reg = cpu.ymm[op->reg_index];
  u8 value[Size];
  copy<Size>(value, cpu.ymm[op->condition]);
  copy<Size>(reg, value);
  clear_rest<Form, Size>(reg);
  ABYME_NEXT(cpu, op);
}

template <class Form> const Op *zero_vector(Cpu &cpu, const Op *op) {
  if (cpu.gates & Form::kGates) [[unlikely]]
    return run_registers(cpu, op);
  __builtin_memset(cpu.ymm[op->reg_index], 0, Form::kVex ? 32 : 16);
  ABYME_NEXT(cpu, op);
}

// MOVD and MOVQ between a general register (op.rm) and a vector register.
template <class Form, class T> const Op *vector_from_general(Cpu &cpu, const Op *op) {
  if (cpu.gates & Form::kGates) [[unlikely]]
    return run_registers(cpu, op);
  u8 *vector = cpu.ymm[op->reg_index];
  const T value = reg<T>(cpu, op->rm);
  copy<sizeof(T)>(vector, reinterpret_cast<const u8 *>(&value));
  clear_rest<Form, sizeof(T)>(vector);
  ABYME_NEXT(cpu, op);
}

template <class Form, class T> const Op *general_from_vector(Cpu &cpu, const Op *op) {
  if (cpu.gates & Form::kGates) [[unlikely]]
    return run_registers(cpu, op);
  set_reg<T>(cpu, op->rm, *reinterpret_cast<const T *>(cpu.ymm[op->reg_index]));
  ABYME_NEXT(cpu, op);
}

enum class Kind : u8 { None, Full, FullAligned, Low, Scalar, Zero };

Kind kind_of(ZydisMnemonic m) {
  switch (m) {
  case ZYDIS_MNEMONIC_MOVUPS:
  case ZYDIS_MNEMONIC_MOVUPD:
  case ZYDIS_MNEMONIC_MOVDQU:
  case ZYDIS_MNEMONIC_LDDQU:
  case ZYDIS_MNEMONIC_VMOVUPS:
  case ZYDIS_MNEMONIC_VMOVUPD:
  case ZYDIS_MNEMONIC_VMOVDQU:
  case ZYDIS_MNEMONIC_VLDDQU: return Kind::Full;
  case ZYDIS_MNEMONIC_MOVAPS:
  case ZYDIS_MNEMONIC_MOVAPD:
  case ZYDIS_MNEMONIC_MOVDQA:
  case ZYDIS_MNEMONIC_MOVNTPS:
  case ZYDIS_MNEMONIC_MOVNTPD:
  case ZYDIS_MNEMONIC_MOVNTDQ:
  case ZYDIS_MNEMONIC_VMOVAPS:
  case ZYDIS_MNEMONIC_VMOVAPD:
  case ZYDIS_MNEMONIC_VMOVDQA:
  case ZYDIS_MNEMONIC_VMOVNTPS:
  case ZYDIS_MNEMONIC_VMOVNTPD:
  case ZYDIS_MNEMONIC_VMOVNTDQ: return Kind::FullAligned;
  case ZYDIS_MNEMONIC_MOVQ:
  case ZYDIS_MNEMONIC_MOVD:
  case ZYDIS_MNEMONIC_VMOVQ:
  case ZYDIS_MNEMONIC_VMOVD: return Kind::Low;
  case ZYDIS_MNEMONIC_MOVSS:
  case ZYDIS_MNEMONIC_MOVSD:
  case ZYDIS_MNEMONIC_VMOVSS:
  case ZYDIS_MNEMONIC_VMOVSD: return Kind::Scalar;
  case ZYDIS_MNEMONIC_PXOR:
  case ZYDIS_MNEMONIC_XORPS:
  case ZYDIS_MNEMONIC_XORPD:
  case ZYDIS_MNEMONIC_VPXOR:
  case ZYDIS_MNEMONIC_VXORPS:
  case ZYDIS_MNEMONIC_VXORPD: return Kind::Zero;
  default: return Kind::None;
  }
}

enum class Place : u8 { Vector, General, Memory, Other };

Place place_of(const ZydisDecodedOperand &o) {
  if (o.type == ZYDIS_OPERAND_TYPE_MEMORY) return Place::Memory;
  if (o.type != ZYDIS_OPERAND_TYPE_REGISTER) return Place::Other;
  switch (ZydisRegisterGetClass(o.reg.value)) {
  case ZYDIS_REGCLASS_XMM:
  case ZYDIS_REGCLASS_YMM: return Place::Vector;
  case ZYDIS_REGCLASS_GPR32:
  case ZYDIS_REGCLASS_GPR64: return Place::General;
  default: return Place::Other;
  }
}

u8 number(const ZydisDecodedOperand &o) { return static_cast<u8>(ZydisRegisterGetId(o.reg.value)); }

template <class Form, bool Aligned> Handler load_of(unsigned size) {
  switch (size) {
  case 4: return load_vector<Form, 4, false>;
  case 8: return load_vector<Form, 8, false>;
  case 16: return load_vector<Form, 16, Aligned>;
  case 32:
    if constexpr (Form::kVex) return load_vector<Form, 32, Aligned>;
    return nullptr;
  default: return nullptr;
  }
}

template <class Form, bool Aligned> Handler store_of(unsigned size) {
  switch (size) {
  case 4: return store_vector<Form, 4, false>;
  case 8: return store_vector<Form, 8, false>;
  case 16: return store_vector<Form, 16, Aligned>;
  case 32:
    if constexpr (Form::kVex) return store_vector<Form, 32, Aligned>;
    return nullptr;
  default: return nullptr;
  }
}

template <class Form> Handler register_move(Kind kind, unsigned size) {
  if (kind == Kind::Scalar) return nullptr; // merges
  switch (size) {
  case 8: return move_vector<Form, 8>;
  case 16: return move_vector<Form, 16>;
  case 32:
    if constexpr (Form::kVex) return move_vector<Form, 32>;
    return nullptr;
  default: return nullptr;
  }
}

template <class Form> Handler general_move(bool to_vector, unsigned size, const ZydisDecodedOperand &general, Op &op) {
  op.rm = static_cast<u8>(number(general) * 8);
  if (to_vector) return size == 8 ? vector_from_general<Form, u64> : vector_from_general<Form, u32>;
  return size == 8 ? general_from_vector<Form, u64> : general_from_vector<Form, u32>;
}

template <class Form> Handler zeroing(const ZydisDecodedInstruction &i, const ZydisDecodedOperand *o, Op &op) {
  const unsigned first = i.operand_count_visible - 2; // the two sources
  if (place_of(o[first]) != Place::Vector || place_of(o[first + 1]) != Place::Vector) return nullptr;
  if (o[first].reg.value != o[first + 1].reg.value) return nullptr;
  op.reg_index = number(o[0]);
  return zero_vector<Form>;
}

template <class Form>
Handler choose(Kind kind, const ZydisDecodedInstruction &i, const ZydisDecodedOperand *o, Op &op) {
  if (kind == Kind::Zero) return zeroing<Form>(i, o, op);
  if (i.operand_count_visible != 2) return nullptr;
  const Place to = place_of(o[0]), from = place_of(o[1]);
  const bool aligned = kind == Kind::FullAligned;
  if (to == Place::Vector && from == Place::Memory && op.address_size == 8) {
    op.reg_index = number(o[0]);
    return aligned ? load_of<Form, true>(o[1].size / 8) : load_of<Form, false>(o[1].size / 8);
  }
  if (to == Place::Memory && from == Place::Vector && op.address_size == 8) {
    op.reg_index = number(o[1]);
    return aligned ? store_of<Form, true>(o[0].size / 8) : store_of<Form, false>(o[0].size / 8);
  }
  if (to == Place::Vector && from == Place::Vector) {
    op.reg_index = number(o[0]);
    op.condition = number(o[1]);
    return register_move<Form>(kind, kind == Kind::Low                                             ? 8
                                     : ZydisRegisterGetClass(o[0].reg.value) == ZYDIS_REGCLASS_YMM ? 32
                                                                                                   : 16);
  }
  if (kind == Kind::Low && to == Place::Vector && from == Place::General) {
    op.reg_index = number(o[0]);
    return general_move<Form>(true, o[1].size / 8, o[1], op);
  }
  if (kind == Kind::Low && to == Place::General && from == Place::Vector) {
    op.reg_index = number(o[1]);
    return general_move<Form>(false, o[0].size / 8, o[0], op);
  }
  return nullptr;
}

} // namespace

Handler fast_move(const ZydisDecodedInstruction &i, const ZydisDecodedOperand *operands, Op &op) {
  const Kind kind = kind_of(i.mnemonic);
  if (kind == Kind::None) return nullptr;
  return i.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX ? choose<Vex>(kind, i, operands, op)
                                                      : choose<Legacy>(kind, i, operands, op);
}

} // namespace abyme::soft::hostexec
