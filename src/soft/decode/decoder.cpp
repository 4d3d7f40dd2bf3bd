// Zydis's view of an instruction, made into our compact one.
#include "soft/decode/decoder.hpp"
#include "soft/decode/table.hpp"
#include "soft/hostexec/hostexec.hpp"
#include "soft/interp/dispatch.hpp"
#include "soft/system/system.hpp"
#include <algorithm>

namespace abyme::soft {
namespace {

using namespace x86;

Outcome undefined(Cpu &cpu, const Op &) { return raise(cpu, UD); }
Outcome too_long(Cpu &cpu, const Op &) { return raise(cpu, GP, 0); }

ZydisMachineMode machine_mode(const Cpu &cpu) {
  if (cpu.mode & kModeCode64) return ZYDIS_MACHINE_MODE_LONG_64;
  if (cpu.mode & (kModeReal | kModeV86)) return cpu.mode & kModeCode32 ? ZYDIS_MACHINE_MODE_LEGACY_32 : ZYDIS_MACHINE_MODE_REAL_16;
  if (cpu.mode & kModeLong) return cpu.mode & kModeCode32 ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32 : ZYDIS_MACHINE_MODE_LONG_COMPAT_16;
  return cpu.mode & kModeCode32 ? ZYDIS_MACHINE_MODE_LEGACY_32 : ZYDIS_MACHINE_MODE_LEGACY_16;
}

ZydisStackWidth stack_width(const Cpu &cpu) {
  if (cpu.mode & kModeCode64) return ZYDIS_STACK_WIDTH_64;
  return cpu.mode & kModeStack32 ? ZYDIS_STACK_WIDTH_32 : ZYDIS_STACK_WIDTH_16;
}

bool is_gpr(ZydisRegister r) {
  const ZydisRegisterClass c = ZydisRegisterGetClass(r);
  return c == ZYDIS_REGCLASS_GPR8 || c == ZYDIS_REGCLASS_GPR16 || c == ZYDIS_REGCLASS_GPR32 || c == ZYDIS_REGCLASS_GPR64;
}


void fill_memory(const Cpu &cpu, const ZydisDecodedInstruction &z, const ZydisDecodedOperand &o, Op &op) {
  const auto &m = o.mem;
  op.flags |= kOpMemory;
  op.disp = static_cast<i32>(m.disp.value);
  if (m.base == ZYDIS_REGISTER_RIP || m.base == ZYDIS_REGISTER_EIP) {
    op.base = Op::kRipSlot;
    op.disp = static_cast<i32>(m.disp.value + op.offset + z.length);
  } else {
    op.base = gpr_slot(m.base);
  }
  // Zydis 4.0 takes R13D for a base where ModRM.mod says that there is none (SDM 2A table 2-3, footnote 1).
  const auto &raw = z.raw;
  if (raw.modrm.rm == 4 && raw.modrm.mod == 0 && raw.sib.base == 5 && z.address_width == 32) {
    op.base = Op::kZeroSlot;
    op.disp = static_cast<i32>(raw.disp.value);
  }
  op.index = gpr_slot(m.index);
  op.scale = static_cast<u8>(m.scale <= 1 ? 0 : __builtin_ctz(m.scale));
  op.segment = segment_for(cpu, m.segment);
  if (m.segment == ZYDIS_REGISTER_SS && op.segment == Op::kFlat) op.flags |= kOpStackSegment;
}

void fill_operands(const Cpu &cpu, const ZydisDecodedInstruction &z, const ZydisDecodedOperand *operands, Op &op) {
  for (unsigned i = 0; i < z.operand_count; i++) {
    const ZydisDecodedOperand &o = operands[i];
    if (o.type == ZYDIS_OPERAND_TYPE_MEMORY && o.visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN) fill_memory(cpu, z, o, op);
    if (o.type != ZYDIS_OPERAND_TYPE_REGISTER) continue;
    if (o.encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG) {
      if (is_gpr(o.reg.value)) op.reg = gpr_slot(o.reg.value);
      op.reg_index = static_cast<u8>(ZydisRegisterGetId(o.reg.value));
    } else if (o.encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM && is_gpr(o.reg.value)) {
      op.rm = gpr_slot(o.reg.value);
    } else if (o.encoding == ZYDIS_OPERAND_ENCODING_OPCODE && is_gpr(o.reg.value)) {
      op.rm = gpr_slot(o.reg.value);
    }
  }
}

void fill_prefixes(const ZydisDecodedInstruction &z, Op &op) {
  if (z.attributes & ZYDIS_ATTRIB_HAS_LOCK) op.flags |= kOpLock;
  if (z.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE)) op.flags |= kOpRep;
  if (z.attributes & ZYDIS_ATTRIB_HAS_REPNE) op.flags |= kOpRepne;
}

// Zydis 4.0 takes F3 REX.B 90 for PAUSE; it is XCHG R8, RAX with a prefix that means nothing. A DS prefix in its place means nothing either.
ZyanStatus decode_exchange(const ZydisDecoder &zydis, const u8 *bytes, ZydisDecodedInstruction &z, ZydisDecodedOperand *operands) {
  u8 plain[ZYDIS_MAX_INSTRUCTION_LENGTH];
  const u8 length = z.length;
  std::transform(bytes, bytes + length, plain, [](u8 b) { return b == 0xF3 ? static_cast<u8>(0x3E) : b; });
  return ZydisDecoderDecodeFull(&zydis, plain, length, &z, operands);
}

void make_slow(Op &op, SlowHandler slow) {
  op.handler = run_slow;
  op.slow = slow;
}

} // namespace

u8 gpr_slot(ZydisRegister r) {
  if (r == ZYDIS_REGISTER_NONE) return Op::kZeroSlot;
  if (r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH) return static_cast<u8>((r - ZYDIS_REGISTER_AH) * 8 + 1);
  // Numbers of byte registers count AH to BH too: only the register around one says which it is.
  const i8 id = ZydisRegisterGetId(ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, r));
  return id < 0 ? Op::kZeroSlot : static_cast<u8>(id * 8);
}

// In 64-bit mode only FS and GS have a base; in flat code of other modes ES, CS, SS and DS need no look either.
u8 segment_for(const Cpu &cpu, ZydisRegister r) {
  if (r == ZYDIS_REGISTER_NONE) return Op::kFlat;
  const u8 s = static_cast<u8>(ZydisRegisterGetId(r));
  const bool flat = s <= DS && (cpu.mode & (kModeCode64 | kModeFlat));
  return flat ? Op::kFlat : s;
}

Decoder::Decoder(const Cpu &cpu) {
  ZydisDecoderInit(&zydis_, machine_mode(cpu), stack_width(cpu));
  // Encodings that these modes turn on take the place of the ones that a CPU without the feature executes.
  ZydisDecoderEnableMode(&zydis_, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
  ZydisDecoderEnableMode(&zydis_, ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
  ZydisDecoderEnableMode(&zydis_, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
  ZydisDecoderEnableMode(&zydis_, ZYDIS_DECODER_MODE_KNC, ZYAN_FALSE);
  ZydisDecoderEnableMode(&zydis_, ZYDIS_DECODER_MODE_WBNOINVD, ZYAN_FALSE);
  const bool bmi = cpu.profile->has(Feature::bmi1);
  ZydisDecoderEnableMode(&zydis_, ZYDIS_DECODER_MODE_TZCNT, bmi ? ZYAN_TRUE : ZYAN_FALSE);
  ZydisDecoderEnableMode(&zydis_, ZYDIS_DECODER_MODE_LZCNT, cpu.profile->has(Feature::abm) ? ZYAN_TRUE : ZYAN_FALSE);
}

Decoded Decoder::decode(Cpu &cpu, const u8 *bytes, size_t available, u16 offset, Op &op, Extent &extent) {
  ZydisDecodedInstruction z;
  ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
  ZyanStatus status = ZydisDecoderDecodeFull(&zydis_, bytes, available, &z, operands);
  if (ZYAN_SUCCESS(status) && z.mnemonic == ZYDIS_MNEMONIC_PAUSE && z.raw.rex.B) status = decode_exchange(zydis_, bytes, z, operands);
  if (status == ZYDIS_STATUS_NO_MORE_DATA && available < 15) return Decoded::Truncated;
  op = {};
  op.offset = offset;
  op.base = op.index = op.reg = op.rm = Op::kZeroSlot;
  op.segment = Op::kFlat;
  extent = {.ends = true};
  if (!ZYAN_SUCCESS(status)) {
    op.length = 1;
    const bool long_one = status == ZYDIS_STATUS_INSTRUCTION_TOO_LONG || status == ZYDIS_STATUS_NO_MORE_DATA;
    make_slow(op, long_one ? too_long : undefined);
    return Decoded::Instruction;
  }
  op.length = z.length;
  op.mnemonic = static_cast<u16>(z.mnemonic);
  op.size = static_cast<u8>(z.operand_width / 8);
  op.address_size = static_cast<u8>(z.address_width / 8);
  op.reg_index = z.raw.modrm.reg;
  op.condition = z.opcode & 15;
  fill_prefixes(z, op);
  fill_operands(cpu, z, operands, op);
  for (unsigned i = 0; i < z.operand_count; i++)
    if (operands[i].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
      op.imm = operands[i].imm.value.s;
      break;
    }
  Extent found;
  if (translate_by_table({cpu, z, operands, op, found})) {
    extent = found;
    return Decoded::Instruction;
  }
  if (const SlowHandler slow = system::handler(op.mnemonic, op)) {
    make_slow(op, slow); // most change the mode, or something that the next instruction depends on
    return Decoded::Instruction;
  }
  if (hostexec::translate(cpu, z, operands, op)) {
    extent = {};
    return Decoded::Instruction;
  }
  make_slow(op, undefined);
  return Decoded::Instruction;
}

} // namespace abyme::soft
