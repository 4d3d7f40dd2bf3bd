// From a decoded instruction to a plan.
#include "soft/hostexec/arena.hpp"
#include "soft/hostexec/features.hpp"
#include "soft/hostexec/hostexec.hpp"
#include "soft/hostexec/manual.hpp"
#include "soft/hostexec/moves.hpp"
#include <bit>

namespace abyme::soft::hostexec {
namespace {

using Instruction = ZydisDecodedInstruction;
using Operand = ZydisDecodedOperand;

const Operand *memory_of(const Instruction &i, const Operand *operands) {
  for (unsigned n = 0; n < i.operand_count; ++n)
    if (operands[n].type == ZYDIS_OPERAND_TYPE_MEMORY) return &operands[n];
  return nullptr;
}

bool names(const Instruction &i, const Operand *operands, std::initializer_list<ZydisRegisterClass> classes) {
  for (unsigned n = 0; n < i.operand_count; ++n)
    for (const auto cls : classes)
      if (operands[n].type == ZYDIS_OPERAND_TYPE_REGISTER && ZydisRegisterGetClass(operands[n].reg.value) == cls)
        return true;
  return false;
}

// Instructions that the host may execute for a guest although they use neither x87 nor vectors: they raise nothing but
// memory faults.
bool is_general(ZydisMnemonic m) {
  switch (m) {
  case ZYDIS_MNEMONIC_ADC:
  case ZYDIS_MNEMONIC_ADCX:
  case ZYDIS_MNEMONIC_ADD:
  case ZYDIS_MNEMONIC_ADOX:
  case ZYDIS_MNEMONIC_AND:
  case ZYDIS_MNEMONIC_ANDN:
  case ZYDIS_MNEMONIC_BEXTR:
  case ZYDIS_MNEMONIC_BLSI:
  case ZYDIS_MNEMONIC_BLSMSK:
  case ZYDIS_MNEMONIC_BLSR:
  case ZYDIS_MNEMONIC_BSF:
  case ZYDIS_MNEMONIC_BSR:
  case ZYDIS_MNEMONIC_BSWAP:
  case ZYDIS_MNEMONIC_BT:
  case ZYDIS_MNEMONIC_BTC:
  case ZYDIS_MNEMONIC_BTR:
  case ZYDIS_MNEMONIC_BTS:
  case ZYDIS_MNEMONIC_BZHI:
  case ZYDIS_MNEMONIC_CMP:
  case ZYDIS_MNEMONIC_CRC32:
  case ZYDIS_MNEMONIC_DEC:
  case ZYDIS_MNEMONIC_IMUL:
  case ZYDIS_MNEMONIC_INC:
  case ZYDIS_MNEMONIC_LZCNT:
  case ZYDIS_MNEMONIC_MOVBE:
  case ZYDIS_MNEMONIC_MOVNTI:
  case ZYDIS_MNEMONIC_MUL:
  case ZYDIS_MNEMONIC_MULX:
  case ZYDIS_MNEMONIC_NEG:
  case ZYDIS_MNEMONIC_NOT:
  case ZYDIS_MNEMONIC_OR:
  case ZYDIS_MNEMONIC_PDEP:
  case ZYDIS_MNEMONIC_PEXT:
  case ZYDIS_MNEMONIC_POPCNT:
  case ZYDIS_MNEMONIC_RCL:
  case ZYDIS_MNEMONIC_RCR:
  case ZYDIS_MNEMONIC_RDRAND:
  case ZYDIS_MNEMONIC_RDSEED:
  case ZYDIS_MNEMONIC_ROL:
  case ZYDIS_MNEMONIC_ROR:
  case ZYDIS_MNEMONIC_RORX:
  case ZYDIS_MNEMONIC_SAR:
  case ZYDIS_MNEMONIC_SARX:
  case ZYDIS_MNEMONIC_SBB:
  case ZYDIS_MNEMONIC_SHL:
  case ZYDIS_MNEMONIC_SHLD:
  case ZYDIS_MNEMONIC_SHLX:
  case ZYDIS_MNEMONIC_SHR:
  case ZYDIS_MNEMONIC_SHRD:
  case ZYDIS_MNEMONIC_SHRX:
  case ZYDIS_MNEMONIC_SUB:
  case ZYDIS_MNEMONIC_TEST:
  case ZYDIS_MNEMONIC_TZCNT:
  case ZYDIS_MNEMONIC_XADD:
  case ZYDIS_MNEMONIC_XOR: return true;
  default: return false;
  }
}

bool is_prefetch(ZydisMnemonic m) {
  switch (m) {
  case ZYDIS_MNEMONIC_PREFETCH:
  case ZYDIS_MNEMONIC_PREFETCHNTA:
  case ZYDIS_MNEMONIC_PREFETCHT0:
  case ZYDIS_MNEMONIC_PREFETCHT1:
  case ZYDIS_MNEMONIC_PREFETCHT2:
  case ZYDIS_MNEMONIC_PREFETCHW:
  case ZYDIS_MNEMONIC_PREFETCHWT1: return true;
  default: return false;
  }
}

bool is_fence(ZydisMnemonic m) {
  return m == ZYDIS_MNEMONIC_LFENCE || m == ZYDIS_MNEMONIC_MFENCE || m == ZYDIS_MNEMONIC_SFENCE;
}

bool is_x87_control(ZydisMnemonic m) {
  switch (m) {
  case ZYDIS_MNEMONIC_FDISI8087_NOP:
  case ZYDIS_MNEMONIC_FENI8087_NOP:
  case ZYDIS_MNEMONIC_FSETPM287_NOP:
  case ZYDIS_MNEMONIC_FLDCW:
  case ZYDIS_MNEMONIC_FLDENV:
  case ZYDIS_MNEMONIC_FNCLEX:
  case ZYDIS_MNEMONIC_FNINIT:
  case ZYDIS_MNEMONIC_FNSAVE:
  case ZYDIS_MNEMONIC_FNSTCW:
  case ZYDIS_MNEMONIC_FNSTENV:
  case ZYDIS_MNEMONIC_FNSTSW:
  case ZYDIS_MNEMONIC_FRSTOR: return true;
  default: return false;
  }
}

bool is_fxsave(ZydisMnemonic m) {
  return m == ZYDIS_MNEMONIC_FXSAVE || m == ZYDIS_MNEMONIC_FXSAVE64 || m == ZYDIS_MNEMONIC_FXRSTOR ||
         m == ZYDIS_MNEMONIC_FXRSTOR64;
}

// The instruction belongs to no unit of ours.
constexpr auto kNotOurs = static_cast<Unit>(0xFF);

Unit unit_of(const Instruction &i, const Operand *operands) {
  if (i.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT && i.opcode >= 0xD8 && i.opcode <= 0xDF &&
      i.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY)
    return is_x87_control(i.mnemonic) ? Unit::X87Control : Unit::X87;
  const bool vector = names(i, operands, {ZYDIS_REGCLASS_XMM, ZYDIS_REGCLASS_YMM});
  const bool mmx = names(i, operands, {ZYDIS_REGCLASS_MMX}) || i.mnemonic == ZYDIS_MNEMONIC_EMMS;
  switch (i.mnemonic) {
  case ZYDIS_MNEMONIC_CVTPD2PI: // even from memory
  case ZYDIS_MNEMONIC_CVTPI2PS:
  case ZYDIS_MNEMONIC_CVTPS2PI:
  case ZYDIS_MNEMONIC_CVTTPD2PI:
  case ZYDIS_MNEMONIC_CVTTPS2PI: return Unit::MmxSse;
  default: break;
  }
  if (mmx) return vector ? Unit::MmxSse : Unit::Mmx;
  switch (i.mnemonic) {
  case ZYDIS_MNEMONIC_CVTSD2SI: // from memory
  case ZYDIS_MNEMONIC_CVTSS2SI:
  case ZYDIS_MNEMONIC_CVTTSD2SI:
  case ZYDIS_MNEMONIC_CVTTSS2SI:
  case ZYDIS_MNEMONIC_LDMXCSR:
  case ZYDIS_MNEMONIC_STMXCSR: return Unit::Sse;
  case ZYDIS_MNEMONIC_VCVTSD2SI:
  case ZYDIS_MNEMONIC_VCVTSS2SI:
  case ZYDIS_MNEMONIC_VCVTTSD2SI:
  case ZYDIS_MNEMONIC_VCVTTSS2SI:
  case ZYDIS_MNEMONIC_VLDMXCSR:
  case ZYDIS_MNEMONIC_VSTMXCSR:
  case ZYDIS_MNEMONIC_VZEROUPPER:
  case ZYDIS_MNEMONIC_VZEROALL: return Unit::Avx;
  default: break;
  }
  const bool vex = i.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
  if (vector) return vex ? Unit::Avx : Unit::Sse;
  if (is_general(i.mnemonic)) return vex ? Unit::GeneralVex : Unit::General;
  return manual_of(i.mnemonic) ? Unit::General : kNotOurs;
}

// BT and its relatives with a register offset reach beyond their operand: a bit string, not a memory operand.
bool is_bit_string(const Instruction &i, const Operand *operands) {
  switch (i.mnemonic) {
  case ZYDIS_MNEMONIC_BT:
  case ZYDIS_MNEMONIC_BTC:
  case ZYDIS_MNEMONIC_BTR:
  case ZYDIS_MNEMONIC_BTS:
    return operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY && operands[1].type == ZYDIS_OPERAND_TYPE_REGISTER;
  default: return false;
  }
}

// Alignment that an instruction demands of its memory operand with #GP(0) (SDM 2A tables 2-18 to 2-21).
u8 alignment_of(const Instruction &i, unsigned size) {
  switch (i.mnemonic) {
  case ZYDIS_MNEMONIC_VMOVAPS:
  case ZYDIS_MNEMONIC_VMOVAPD:
  case ZYDIS_MNEMONIC_VMOVDQA:
  case ZYDIS_MNEMONIC_VMOVNTPS:
  case ZYDIS_MNEMONIC_VMOVNTPD:
  case ZYDIS_MNEMONIC_VMOVNTDQ:
  case ZYDIS_MNEMONIC_VMOVNTDQA: return static_cast<u8>(size);
  case ZYDIS_MNEMONIC_MOVUPS:
  case ZYDIS_MNEMONIC_MOVUPD:
  case ZYDIS_MNEMONIC_MOVDQU:
  case ZYDIS_MNEMONIC_LDDQU:
  case ZYDIS_MNEMONIC_PCMPESTRI:
  case ZYDIS_MNEMONIC_PCMPESTRM:
  case ZYDIS_MNEMONIC_PCMPISTRI:
  case ZYDIS_MNEMONIC_PCMPISTRM: return 1;
  default: return i.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY && size == 16 ? 16 : 1;
  }
}

u8 vector_number(const Operand &operand) {
  if (operand.type != ZYDIS_OPERAND_TYPE_REGISTER) return 0;
  const auto cls = ZydisRegisterGetClass(operand.reg.value);
  const bool vector = cls == ZYDIS_REGCLASS_XMM || cls == ZYDIS_REGCLASS_YMM || cls == ZYDIS_REGCLASS_MMX;
  return vector ? static_cast<u8>(ZydisRegisterGetId(operand.reg.value)) : 0;
}

void note_vectors(Plan &plan, const Instruction &i, const Operand *operands) {
  for (unsigned n = 0; n < i.operand_count; ++n) {
    const Operand &o = operands[n];
    if (o.encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG) plan.reg = vector_number(o);
    if (o.encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM) plan.rm = vector_number(o);
    if (o.encoding == ZYDIS_OPERAND_ENCODING_NDSNDD) plan.vvvv = vector_number(o);
  }
  plan.vector_size = i.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX && i.raw.vex.L ? 32 : 16;
}

Plan describe(const Instruction &i, const Operand *operands, Unit unit) {
  Plan plan;
  plan.unit = unit;
  plan.gates = gates_of(unit);
  plan.mnemonic = static_cast<u16>(i.mnemonic);
  plan.operand_width = i.operand_width;
  plan.vex = i.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX;
  plan.rex_w = !plan.vex && i.raw.rex.W;
  plan.waits = unit == Unit::X87 || i.mnemonic == ZYDIS_MNEMONIC_FLDCW || i.mnemonic == ZYDIS_MNEMONIC_FLDENV ||
               i.mnemonic == ZYDIS_MNEMONIC_FRSTOR;
  if (unit == Unit::X87)
    plan.fop = static_cast<u16>((i.opcode & 7) << 8 | i.raw.modrm.mod << 6 | i.raw.modrm.reg << 3 | i.raw.modrm.rm);
  plan.imm = static_cast<u8>(i.raw.imm[0].value.u);
  note_vectors(plan, i, operands);
  if (const Operand *m = memory_of(i, operands)) {
    plan.size = static_cast<u16>(m->size / 8);
    plan.reads = m->actions & ZYDIS_OPERAND_ACTION_MASK_READ;
    plan.writes = m->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
    if (unit != Unit::X87 && unit != Unit::X87Control) plan.alignment = alignment_of(i, plan.size);
  }
  return plan;
}

// MASKMOVQ and MASKMOVDQU write to DS:DI.
void describe_implicit_memory(const Cpu &cpu, const Operand &memory, Op &op) {
  const auto segment = static_cast<u8>(memory.mem.segment - ZYDIS_REGISTER_ES);
  const bool flat = cpu.code64() && segment != x86::FS && segment != x86::GS;
  op.base = x86::RDI * 8;
  op.index = Op::kZeroSlot;
  op.scale = 0;
  op.disp = 0;
  op.segment = flat ? Op::kFlat : segment;
}

// Gathers: op addresses element 0 with a zero index; the vector of indices is the plan's.
[[nodiscard]] bool describe_gather(const Operand *operands, const Operand &memory, Plan &plan, Op &op) {
  plan.index = static_cast<u8>(ZydisRegisterGetId(memory.mem.index));
  plan.imm = static_cast<u8>(std::countr_zero(static_cast<unsigned>(memory.mem.scale)));
  plan.element = plan.mnemonic == ZYDIS_MNEMONIC_VGATHERDPD || plan.mnemonic == ZYDIS_MNEMONIC_VGATHERQPD ||
                         plan.mnemonic == ZYDIS_MNEMONIC_VPGATHERDQ || plan.mnemonic == ZYDIS_MNEMONIC_VPGATHERQQ
                     ? 8
                     : 4;
  plan.index_element = plan.mnemonic == ZYDIS_MNEMONIC_VGATHERQPD || plan.mnemonic == ZYDIS_MNEMONIC_VGATHERQPS ||
                               plan.mnemonic == ZYDIS_MNEMONIC_VPGATHERQD || plan.mnemonic == ZYDIS_MNEMONIC_VPGATHERQQ
                           ? 8
                           : 4;
  op.index = Op::kZeroSlot;
  op.scale = 0;
  (void)operands;
  return plan.reg != plan.vvvv && plan.reg != plan.index && plan.vvvv != plan.index;
}

[[nodiscard]] bool describe_manual(const Cpu &cpu, const Instruction &i, const Operand *operands, Plan &plan, Op &op) {
  const Operand *memory = memory_of(i, operands);
  if (plan.manual == gather) return memory && describe_gather(operands, *memory, plan, op);
  if (plan.manual == masked_load) {
    if (operands[0].type == ZYDIS_OPERAND_TYPE_MEMORY) plan.manual = masked_store;
    const bool wide = i.mnemonic == ZYDIS_MNEMONIC_VMASKMOVPD || i.mnemonic == ZYDIS_MNEMONIC_VPMASKMOVQ;
    plan.element = wide ? 8 : 4;
  }
  if ((plan.manual == masked_bytes || plan.manual == masked_bytes_mmx) && memory)
    describe_implicit_memory(cpu, *memory, op);
  if (is_fxsave(i.mnemonic)) plan.gates = kGateX87;
  return true;
}

[[nodiscard]] Handler handler_of(const Plan &plan) {
  if (plan.manual) return run_manual;
  if (uses_x87(plan.unit)) return run_x87;
  return plan.size ? run_memory : run_registers;
}

// Without BMI1 or LZCNT the F3 prefix means nothing and the instruction is BSF or BSR (SDM 2B TZCNT, LZCNT).
Instruction as_this_cpu_decodes(const x86::CpuProfile &profile, const Instruction &i) {
  const bool tzcnt = i.mnemonic == ZYDIS_MNEMONIC_TZCNT && !profile.has(x86::Feature::bmi1);
  const bool lzcnt = i.mnemonic == ZYDIS_MNEMONIC_LZCNT && !profile.has(x86::Feature::abm);
  if (!tzcnt && !lzcnt) return i;
  Instruction plain = i;
  plain.mnemonic = tzcnt ? ZYDIS_MNEMONIC_BSF : ZYDIS_MNEMONIC_BSR;
  plain.meta.isa_set = ZYDIS_ISA_SET_I386;
  for (unsigned n = 0; n < plain.raw.prefix_count; ++n)
    if (plain.raw.prefixes[n].value == 0xF3) plain.raw.prefixes[n].type = ZYDIS_PREFIX_TYPE_IGNORED;
  return plain;
}

} // namespace

bool translate(Cpu &cpu, const ZydisDecodedInstruction &decoded, const ZydisDecodedOperand *operands, Op &op) {
  const Instruction i = as_this_cpu_decodes(*cpu.profile, decoded);
  if (!available(*cpu.profile, i) || is_bit_string(i, operands)) return false;
  if (is_prefetch(i.mnemonic)) {
    op.handler = run_nothing;
    return true;
  }
  if (is_fence(i.mnemonic)) {
    op.handler = run_fence;
    return true;
  }
  const Unit unit = unit_of(i, operands);
  if (unit == kNotOurs) return false;
  Plan plan = describe(i, operands, unit);
  plan.manual = manual_of(i.mnemonic);
  const bool general = unit == Unit::General || unit == Unit::GeneralVex;
  if (plan.manual) {
    // No stub stands behind these but RDRAND's and RDSEED's; they need no loaded x87 unit.
    plan.gates &= static_cast<u8>(~(kGateX87Cold | kGateUnmasked));
    if (unit == Unit::X87Control) plan.gates = plan.waits ? kGateX87 | kGateX87Cold : kGateX87;
    if (!describe_manual(cpu, i, operands, plan, op)) return false;
    if (plan.manual == random_number) plan.stub = cpu.arena->stub(i, operands, general);
  } else {
    plan.stub = cpu.arena->stub(i, operands, general);
    if (!plan.stub) return false;
  }
  op.data = cpu.arena->keep(plan);
  const Handler fast = fast_move(i, operands, op);
  op.handler = fast ? fast : handler_of(plan);
  return true;
}

} // namespace abyme::soft::hostexec
