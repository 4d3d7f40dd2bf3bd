#include "exclusions.hpp"
#include "soft/hostexec/features.hpp"
#include "x86/state.hpp"

namespace abyme::differential {
namespace {

// Categories of instructions that enter the kernel, touch segments or ports, or are privileged.
bool excluded_category(ZydisInstructionCategory c) {
  switch (c) {
  case ZYDIS_CATEGORY_INTERRUPT:
  case ZYDIS_CATEGORY_IO:
  case ZYDIS_CATEGORY_IOSTRINGOP:
  case ZYDIS_CATEGORY_SEGOP:
  case ZYDIS_CATEGORY_SYSCALL:
  case ZYDIS_CATEGORY_SYSRET:
  case ZYDIS_CATEGORY_SYSTEM:
  case ZYDIS_CATEGORY_VTX:
  case ZYDIS_CATEGORY_RDRAND: // another value each time
  case ZYDIS_CATEGORY_RDSEED:
  case ZYDIS_CATEGORY_RDPID:
  case ZYDIS_CATEGORY_RDWRFSGS: return true;
  default: return false;
  }
}

bool excluded_mnemonic(ZydisMnemonic m) {
  switch (m) {
  case ZYDIS_MNEMONIC_CPUID: // the guest's CPU is not the host's
  case ZYDIS_MNEMONIC_XGETBV:
  case ZYDIS_MNEMONIC_XSAVES:
  case ZYDIS_MNEMONIC_XSAVES64:
  case ZYDIS_MNEMONIC_XRSTORS:
  case ZYDIS_MNEMONIC_XRSTORS64:
  case ZYDIS_MNEMONIC_RDTSC:
  case ZYDIS_MNEMONIC_RDTSCP:
  case ZYDIS_MNEMONIC_RDPMC:
  case ZYDIS_MNEMONIC_HLT:
  case ZYDIS_MNEMONIC_CLI:
  case ZYDIS_MNEMONIC_STI:
  case ZYDIS_MNEMONIC_LAR: // the host's GDT is not the guest's
  case ZYDIS_MNEMONIC_LSL:
  case ZYDIS_MNEMONIC_VERR:
  case ZYDIS_MNEMONIC_VERW:
  case ZYDIS_MNEMONIC_IRET:
  case ZYDIS_MNEMONIC_IRETD:
  case ZYDIS_MNEMONIC_IRETQ:
  case ZYDIS_MNEMONIC_LSS:
  case ZYDIS_MNEMONIC_LFS:
  case ZYDIS_MNEMONIC_LGS:
  case ZYDIS_MNEMONIC_MONITOR:
  case ZYDIS_MNEMONIC_MWAIT:
  case ZYDIS_MNEMONIC_PUSHF: // sees the single step's TF
  case ZYDIS_MNEMONIC_PUSHFQ:
  case ZYDIS_MNEMONIC_PUSHFD:
  case ZYDIS_MNEMONIC_POPFD:
  case ZYDIS_MNEMONIC_POPF: // may clear it
  case ZYDIS_MNEMONIC_POPFQ:
  case ZYDIS_MNEMONIC_UD0:
  case ZYDIS_MNEMONIC_UD1:
  case ZYDIS_MNEMONIC_UD2:
  case ZYDIS_MNEMONIC_INT3: return true;
  default: return false;
  }
}

bool writes_segment(const Decoded &d) {
  for (unsigned n = 0; n < d.instruction.operand_count_visible; ++n) {
    const auto &o = d.operands[n];
    if (o.type != ZYDIS_OPERAND_TYPE_REGISTER) continue;
    const auto cls = ZydisRegisterGetClass(o.reg.value);
    if (cls == ZYDIS_REGCLASS_SEGMENT || cls == ZYDIS_REGCLASS_CONTROL || cls == ZYDIS_REGCLASS_DEBUG) return true;
  }
  return false;
}

// A NOP for Intel, #UD for AMD.
bool is_register_prefetch(const Decoded &d) {
  return d.instruction.opcode_map == ZYDIS_OPCODE_MAP_0F && d.instruction.opcode == 0x0D &&
         d.instruction.raw.modrm.mod == 3;
}

// Intel ignores an operand-size prefix of a near branch in 64-bit mode, AMD truncates RIP (SDM 2A CALL, AMD APM 3 "near
// branches").
bool is_truncated_branch(const Decoded &d) {
  return !is_compatible(d) && d.instruction.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE &&
         (d.instruction.operand_width == 16 || d.instruction.attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE);
}

struct Undefined {
  ZydisMnemonic mnemonic;
  u64 flags;
};

using namespace x86::rflags;

// Volume 2 of the SDM, "Flags Affected" of each instruction.
constexpr Undefined kUndefined[] = {
    {ZYDIS_MNEMONIC_AND, AF},
    {ZYDIS_MNEMONIC_OR, AF},
    {ZYDIS_MNEMONIC_XOR, AF},
    {ZYDIS_MNEMONIC_TEST, AF},
    {ZYDIS_MNEMONIC_ANDN, AF | PF},
    {ZYDIS_MNEMONIC_BLSI, AF | PF},
    {ZYDIS_MNEMONIC_BLSR, AF | PF},
    {ZYDIS_MNEMONIC_BLSMSK, AF | PF},
    {ZYDIS_MNEMONIC_BZHI, AF | PF},
    {ZYDIS_MNEMONIC_BEXTR, AF | SF | PF},
    {ZYDIS_MNEMONIC_BSF, CF | OF | SF | AF | PF},
    {ZYDIS_MNEMONIC_BSR, CF | OF | SF | AF | PF},
    {ZYDIS_MNEMONIC_TZCNT, OF | SF | AF | PF},
    {ZYDIS_MNEMONIC_LZCNT, OF | SF | AF | PF},
    {ZYDIS_MNEMONIC_BT, OF | SF | AF | PF},
    {ZYDIS_MNEMONIC_BTC, OF | SF | AF | PF},
    {ZYDIS_MNEMONIC_BTR, OF | SF | AF | PF},
    {ZYDIS_MNEMONIC_BTS, OF | SF | AF | PF},
    {ZYDIS_MNEMONIC_MUL, SF | ZF | AF | PF},
    {ZYDIS_MNEMONIC_IMUL, SF | ZF | AF | PF},
    {ZYDIS_MNEMONIC_DAA, OF},
    {ZYDIS_MNEMONIC_DAS, OF},
    {ZYDIS_MNEMONIC_AAA, OF | SF | ZF | PF},
    {ZYDIS_MNEMONIC_AAS, OF | SF | ZF | PF},
    {ZYDIS_MNEMONIC_AAM, OF | AF | CF},
    {ZYDIS_MNEMONIC_AAD, OF | AF | CF},
    {ZYDIS_MNEMONIC_DIV, kStatus},
    {ZYDIS_MNEMONIC_IDIV, kStatus},
};

// Shifts and rotates, by their count after masking.
u64 undefined_after_shift(const Decoded &d, u64 count) {
  const unsigned width = d.operands[0].size;
  const u64 masked = count & (width == 64 ? 63 : 31);
  if (masked == 0) return 0;
  switch (d.instruction.mnemonic) {
  case ZYDIS_MNEMONIC_SHL:
  case ZYDIS_MNEMONIC_SHR: return AF | (masked > 1 ? OF : 0) | (masked >= width ? CF : 0);
  case ZYDIS_MNEMONIC_SAR: return AF | (masked > 1 ? OF : 0);
  case ZYDIS_MNEMONIC_ROL:
  case ZYDIS_MNEMONIC_ROR:
  case ZYDIS_MNEMONIC_RCL:
  case ZYDIS_MNEMONIC_RCR: return masked > 1 ? OF : 0;
  case ZYDIS_MNEMONIC_SHLD:
  case ZYDIS_MNEMONIC_SHRD: return masked > width ? kStatus : AF | (masked > 1 ? OF : 0);
  default: return 0;
  }
}

// 32-bit code is there for the general-purpose instructions: the others' forms are those of 64-bit mode.
bool is_general_purpose(const Decoded &d) {
  const auto &meta = d.instruction.meta;
  return meta.isa_ext == ZYDIS_ISA_EXT_BASE || meta.isa_ext == ZYDIS_ISA_EXT_MOVBE;
}

} // namespace

bool comparable(const x86::CpuProfile &profile, const Decoded &d) {
  const auto &i = d.instruction;
  return soft::hostexec::available(profile, i) && !excluded_category(i.meta.category) &&
         !excluded_mnemonic(i.mnemonic) && !writes_segment(d) && (!is_compatible(d) || is_general_purpose(d)) &&
         i.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR && !is_truncated_branch(d) && !is_register_prefetch(d);
}

u64 undefined_flags(const Decoded &d, u64 count) {
  for (const auto &row : kUndefined)
    if (row.mnemonic == d.instruction.mnemonic) return row.flags;
  return undefined_after_shift(d, count);
}

} // namespace abyme::differential
