#include "soft/hostexec/reencode.hpp"
#include <bit>
#include <initializer_list>

namespace abyme::soft::hostexec {
namespace {

constexpr u8 kRsp = 4;

// Number of the 64-bit register that contains `reg`, or 16 where it is no general register.
u8 general_number(ZydisRegister reg) {
  switch (ZydisRegisterGetClass(reg)) {
  case ZYDIS_REGCLASS_GPR8:
  case ZYDIS_REGCLASS_GPR16:
  case ZYDIS_REGCLASS_GPR32:
  case ZYDIS_REGCLASS_GPR64:
    return static_cast<u8>(ZydisRegisterGetId(ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg)));
  default: return 16;
  }
}

u8 pick(u16 &taken, std::initializer_list<u8> order) {
  for (const u8 r : order)
    if (!(taken >> r & 1)) {
      taken |= static_cast<u16>(1 << r);
      return r;
    }
  return 16;
}

bool has_memory(const ZydisDecodedInstruction &i) {
  return i.attributes & ZYDIS_ATTRIB_HAS_MODRM && i.raw.modrm.mod != 3;
}

bool names_general_register(const ZydisDecodedInstruction &i, const ZydisDecodedOperand *operands) {
  for (unsigned n = 0; n < i.operand_count_visible; ++n)
    if (operands[n].type == ZYDIS_OPERAND_TYPE_REGISTER && general_number(operands[n].reg.value) < 16) return true;
  return false;
}

// The register fields of the encoding, with RSP replaced.
struct Fields {
  u8 reg, rm, vvvv;
};

Fields fields_of(const ZydisDecodedInstruction &i, const ZydisDecodedOperand *operands, const RegisterMap &map) {
  const bool vex = i.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
  const bool code64 = i.machine_mode == ZYDIS_MACHINE_MODE_LONG_64;
  const u8 r = !code64 ? 0 : vex ? !i.raw.vex.R : i.raw.rex.R;
  const u8 b = !code64 ? 0 : vex ? (i.raw.vex.size == 3 && !i.raw.vex.B) : i.raw.rex.B;
  Fields f{static_cast<u8>(i.raw.modrm.reg | r << 3), static_cast<u8>(i.raw.modrm.rm | b << 3), 0};
  if (vex) f.vvvv = static_cast<u8>(~i.raw.vex.vvvv & (code64 ? 15 : 7));
  for (unsigned n = 0; n < i.operand_count; ++n) {
    if (operands[n].type != ZYDIS_OPERAND_TYPE_REGISTER || general_number(operands[n].reg.value) != kRsp) continue;
    if (operands[n].encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG) f.reg = map.stack_pointer;
    if (operands[n].encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM) f.rm = map.stack_pointer;
    if (operands[n].encoding == ZYDIS_OPERAND_ENCODING_NDSNDD) f.vvvv = map.stack_pointer;
  }
  if (has_memory(i)) f.rm = map.memory;
  return f;
}

void put_vex(Encoded &out, const ZydisDecodedInstruction &i, const ZydisDecodedOperand *operands, const Fields &f) {
  const auto &v = i.raw.vex;
  // Outside of 64-bit mode W is ignored where it would select a 64-bit general register.
  const bool w = i.machine_mode == ZYDIS_MACHINE_MODE_LONG_64 ? v.W : v.W && !names_general_register(i, operands);
  const u8 mmmmm = v.size == 2 ? 1 : v.m_mmmm;
  out.put(0xC4);
  out.put(static_cast<u8>((f.reg < 8) << 7 | 1 << 6 | (f.rm < 8) << 5 | mmmmm));
  out.put(static_cast<u8>(w << 7 | (~f.vvvv & 15) << 3 | v.L << 2 | v.pp));
}

void put_prefixes(Encoded &out, const ZydisDecodedInstruction &i, bool general) {
  bool size_prefix = general && i.operand_width == 16;
  for (unsigned n = 0; n < i.raw.prefix_count; ++n) {
    const auto &p = i.raw.prefixes[n];
    if (p.value == 0x66 && p.type == ZYDIS_PREFIX_TYPE_MANDATORY) size_prefix = true;
  }
  if (i.attributes & ZYDIS_ATTRIB_HAS_LOCK) out.put(0xF0);
  if (size_prefix) out.put(0x66);
  for (unsigned n = 0; n < i.raw.prefix_count; ++n) {
    const auto &p = i.raw.prefixes[n];
    if ((p.value == 0xF2 || p.value == 0xF3) && p.type == ZYDIS_PREFIX_TYPE_MANDATORY) out.put(p.value);
  }
}

// SPL, BPL, SIL and DIL are what the encodings of AH, CH, DH and BH mean with a REX prefix.
bool needs_rex(const ZydisDecodedInstruction &i, const ZydisDecodedOperand *operands) {
  for (unsigned n = 0; n < i.operand_count_visible; ++n) {
    const auto reg = operands[n].reg.value;
    if (operands[n].type == ZYDIS_OPERAND_TYPE_REGISTER && reg >= ZYDIS_REGISTER_SPL && reg <= ZYDIS_REGISTER_DIL)
      return true;
  }
  return false;
}

void put_rex(Encoded &out, const ZydisDecodedInstruction &i, const ZydisDecodedOperand *operands, const Fields &f,
             bool general) {
  const bool modrm = i.attributes & ZYDIS_ATTRIB_HAS_MODRM;
  const bool w = general ? i.operand_width == 64 : i.raw.rex.W;
  const u8 low = modrm ? f.rm : static_cast<u8>(i.raw.rex.B << 3);
  const u8 rex = static_cast<u8>(w << 3 | (modrm && f.reg >= 8) << 2 | (low >= 8));
  if (rex || needs_rex(i, operands)) out.put(0x40 | rex);
}

void put_map(Encoded &out, ZydisOpcodeMap map) {
  if (map == ZYDIS_OPCODE_MAP_DEFAULT) return;
  out.put(0x0F);
  if (map == ZYDIS_OPCODE_MAP_0F38) out.put(0x38);
  if (map == ZYDIS_OPCODE_MAP_0F3A) out.put(0x3A);
}

} // namespace

bool touches_flags(const ZydisDecodedInstruction &i) {
  constexpr u32 kStatus =
      ZYDIS_CPUFLAG_CF | ZYDIS_CPUFLAG_PF | ZYDIS_CPUFLAG_AF | ZYDIS_CPUFLAG_ZF | ZYDIS_CPUFLAG_SF | ZYDIS_CPUFLAG_OF;
  const auto *f = i.cpu_flags;
  return f && (f->tested | f->modified | f->set_0 | f->set_1 | f->undefined) & kStatus;
}

bool map_registers(const ZydisDecodedInstruction &i, const ZydisDecodedOperand *operands, RegisterMap &map) {
  for (unsigned n = 0; n < i.operand_count; ++n) {
    if (operands[n].type != ZYDIS_OPERAND_TYPE_REGISTER) continue;
    const u8 reg = general_number(operands[n].reg.value);
    if (reg > 15) continue;
    map.guest_used |= static_cast<u16>(1 << reg);
    if (operands[n].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) map.guest_written |= static_cast<u16>(1 << reg);
  }
  map.flags = touches_flags(i);
  u16 taken = static_cast<u16>(map.guest_used | 1 << kRsp | (map.flags ? 1 : 0));
  map.memory = pick(taken, {6, 2, 1, 7, 0, 3});
  map.state = pick(taken, {7, 8, 9, 10, 11, 2, 1, 12});
  if (map.guest_used >> kRsp & 1) map.stack_pointer = pick(taken, {0, 1, 2, 3, 8, 9, 10, 11});
  return map.memory < 16 && map.state < 16 && map.stack_pointer < 16;
}

Encoded reencode(const ZydisDecodedInstruction &i, const ZydisDecodedOperand *operands, const RegisterMap &map,
                 bool general) {
  Encoded out;
  const Fields f = fields_of(i, operands, map);
  if (i.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX) {
    put_vex(out, i, operands, f);
  } else {
    put_prefixes(out, i, general);
    put_rex(out, i, operands, f, general);
    put_map(out, i.opcode_map);
  }
  out.put(i.opcode);
  if (i.attributes & ZYDIS_ATTRIB_HAS_MODRM)
    out.put(static_cast<u8>((has_memory(i) ? 0 : 0xC0) | (f.reg & 7) << 3 | (f.rm & 7)));
  for (const auto &imm : i.raw.imm)
    if (imm.size) out.put(imm.value.u, imm.size / 8);
  return out;
}

} // namespace abyme::soft::hostexec
