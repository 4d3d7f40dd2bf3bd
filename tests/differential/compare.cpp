#include "compare.hpp"
#include "exclusions.hpp"
#include "native.hpp"
#include "x86/state.hpp"
#include <fmt/format.h>

namespace abyme::differential {
namespace {

constexpr const char *kGprNames[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                       "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

template <class T> void differ(std::string &out, std::string_view what, T native, T emulated) {
  if (native != emulated) out += fmt::format("  {}: native {:#x}, abyme {:#x}\n", what, native, emulated);
}

std::string hex(const u8 *p, unsigned size) {
  std::string s;
  for (unsigned n = size; n-- > 0;) s += fmt::format("{:02x}", p[n]);
  return s;
}

void differ_bytes(std::string &out, std::string_view what, const u8 *native, const u8 *emulated, unsigned size) {
  if (std::memcmp(native, emulated, size) != 0)
    out += fmt::format("  {}: native {}, abyme {}\n", what, hex(native, size), hex(emulated, size));
}

// The count of a shift or rotate: CL, an immediate or 1.
u64 shift_count(const Case &c, const Decoded &d) {
  for (unsigned n = d.instruction.operand_count_visible; n-- > 1;)
    if (d.operands[n].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) return d.operands[n].imm.value.u;
  for (unsigned n = 1; n < d.instruction.operand_count; ++n)
    if (d.operands[n].type == ZYDIS_OPERAND_TYPE_REGISTER && d.operands[n].reg.value == ZYDIS_REGISTER_CL)
      return c.before.gpr[1] & 0xFF;
  return 1;
}

struct Listed {
  const char *what, *reason;
};
constexpr Listed kListed[] = {
    {"near branches with a 66H prefix",
     "AMD truncates RIP to 16 bits, Intel ignores the prefix in 64-bit mode: not run"},
    {"MXCSR_MASK in FXSAVE and XSAVE areas", "AMD has MXCSR.MM (bit 17), Intel and the guest do not: not compared"},
    {"FIP, FDP and FOP", "AMD saves and restores them only while an exception is pending, Intel always: not compared"},
    {"SHA with an unaligned operand", "AMD executes it, Intel raises #GP(0) (SDM 2B SHA1MSG1, type 4): not compared"},
    {"0F 0D with a register operand", "AMD raises #UD, on Intel it is a NOP: not run"},
    {"faults of MASKMOVQ and MASKMOVDQU",
     "which bytes fault, and whether masked ones do, is left open (SDM 2B): not compared"},
    {"CR2 of FXSAVE and XSAVE areas and x87 environments",
     "which part of them is accessed first is left open: not compared"},
    {"near calls with a bad target and a bad stack",
     "AMD reports the stack's fault, the SDM checks the target first (SDM 2A CALL): not compared"},
    {"how much of an FXSAVE or XSAVE area is accessed", "a CPU may touch parts that the requested components do not "
                                                        "need (SDM 1 §13.4): a page fault of one only is not compared"},
    {"CVTPI2PS from memory with a pending x87 exception",
     "AMD ignores it, the SDM has #MF (SDM 2A CVTPI2PS): not compared"},
    {"DPPS and DPPD with an unmasked exception",
     "their multiplications and additions report in steps, abyme sees the flags of all: MXCSR is not compared"},
    {"MXCSR.MM (bit 17)", "AMD has it, for Intel and the guest it is reserved: cases that load it are not compared"},
    {"VCVTPS2PH with an unmasked underflow",
     "a tiny but exact result raises #XM; abyme finds those by FTZ, which VCVTPS2PH ignores: not compared"},
    {"POPA and POPAD that fault", "AMD has loaded the registers popped before the fault (the instruction can still be "
                                  "restarted), abyme none: registers are not compared"},
    {"MXCSR.PE with an unmasked overflow or underflow",
     "abyme sees the masked result, which is inexact, the CPU the one before the exponent is bounded: not compared"},
};

bool saves_fpu_area(const Decoded &d) {
  const auto c = d.instruction.meta.category;
  return c == ZYDIS_CATEGORY_XSAVE || c == ZYDIS_CATEGORY_XSAVEOPT ||
         d.instruction.meta.isa_set == ZYDIS_ISA_SET_FXSAVE || d.instruction.meta.isa_set == ZYDIS_ISA_SET_FXSAVE64;
}

constexpr u32 kOverflowUnderflow = 0x18, kPrecision = 0x20, kStatusFlags = 0x3F; // MXCSR

// Linear address of the memory operand.
u64 area_start(const Case &c, const Decoded &d) {
  const auto &m = d.operands[0].mem;
  const auto value = [&](ZydisRegister reg) -> u64 {
    if (reg == ZYDIS_REGISTER_NONE) return 0;
    if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP) return c.before.rip + c.length;
    return c.before.gpr[ZydisRegisterGetId(ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg))];
  };
  u64 at = value(m.base) + value(m.index) * m.scale + static_cast<u64>(m.disp.value);
  if (d.instruction.address_width == 32) at = static_cast<u32>(at);
  return at + (m.segment == ZYDIS_REGISTER_GS ? Native::kGsBase : 0);
}

bool is_environment(const Decoded &d) {
  switch (d.instruction.mnemonic) {
  case ZYDIS_MNEMONIC_FLDENV:
  case ZYDIS_MNEMONIC_FNSAVE:
  case ZYDIS_MNEMONIC_FNSTENV:
  case ZYDIS_MNEMONIC_FRSTOR: return true;
  default: return false;
  }
}

bool is_unaligned_sha(const Decoded &d, const Outcome &native, const Outcome &emulated) {
  const bool fault = emulated.stop.fault && emulated.stop.vector == x86::GP;
  return d.instruction.meta.isa_set == ZYDIS_ISA_SET_SHA && fault &&
         !(native.stop.fault && native.stop.vector == x86::GP);
}

bool is_masked_move_fault(const Decoded &d, const Outcome &native, const Outcome &emulated) {
  switch (d.instruction.mnemonic) {
  case ZYDIS_MNEMONIC_MASKMOVQ:
  case ZYDIS_MNEMONIC_MASKMOVDQU:
  case ZYDIS_MNEMONIC_VMASKMOVDQU: return native.stop.fault || emulated.stop.fault;
  default: return false;
  }
}

bool is_partial_area_fault(const Decoded &d, const Outcome &native, const Outcome &emulated) {
  const auto page_fault = [](const Stop &s) { return s.fault && s.vector == x86::PF; };
  return saves_fpu_area(d) && page_fault(native.stop) != page_fault(emulated.stop);
}

bool is_memory_cvtpi2ps_with_pending(const Decoded &d, const Outcome &emulated) {
  return d.instruction.mnemonic == ZYDIS_MNEMONIC_CVTPI2PS && d.operands[1].type == ZYDIS_OPERAND_TYPE_MEMORY &&
         emulated.stop.fault && emulated.stop.vector == x86::MF;
}

bool is_misaligned_mode(const Outcome &native) { return native.state.mxcsr >> 17 & 1; }

bool is_exact_tiny_half(const Decoded &d, const Outcome &native, const Outcome &emulated) {
  return d.instruction.mnemonic == ZYDIS_MNEMONIC_VCVTPS2PH && native.stop.fault && native.stop.vector == x86::XM &&
         !emulated.stop.fault;
}

bool is_dot_product(const Decoded &d) {
  switch (d.instruction.mnemonic) {
  case ZYDIS_MNEMONIC_DPPD:
  case ZYDIS_MNEMONIC_DPPS:
  case ZYDIS_MNEMONIC_VDPPD:
  case ZYDIS_MNEMONIC_VDPPS: return true;
  default: return false;
  }
}

bool is_faulting_popa(const Decoded &d, const Outcome &native) {
  const auto m = d.instruction.mnemonic;
  return native.stop.fault && (m == ZYDIS_MNEMONIC_POPA || m == ZYDIS_MNEMONIC_POPAD);
}

// Bits of MXCSR that are compared.
u32 comparable_mxcsr(const Decoded &d, const Outcome &native) {
  const u32 mxcsr = native.state.mxcsr;
  if (!native.stop.fault || native.stop.vector != x86::XM) return ~0u;
  if (is_dot_product(d)) return ~kStatusFlags;
  return mxcsr & ~(mxcsr >> 7) & kOverflowUnderflow ? ~kPrecision : ~0u;
}

// A call whose target and whose stack are both bad.
bool is_call_with_two_faults(const Decoded &d, const Outcome &native, const Outcome &emulated) {
  const bool both = native.stop.fault && emulated.stop.fault && emulated.stop.vector == x86::GP;
  return d.instruction.mnemonic == ZYDIS_MNEMONIC_CALL && both &&
         (native.stop.vector == x86::PF || native.stop.vector == x86::SS_);
}

// Bytes of an FXSAVE or XSAVE area that are not compared: FOP, FIP and FDP, and MXCSR_MASK. AMD clears what Intel
// leaves of the reserved ones; XSTATE_BV and what follows from it depend on what the CPU tracks as in use (SDM 1
// §13.6).
bool ignored_byte(const Decoded &d, const Case &c, unsigned n) {
  if (!is_environment(d) && !saves_fpu_area(d)) return false;
  const u64 offset = kData + n - area_start(c, d);
  if (is_environment(d))
    return d.instruction.operand_width == 16 ? offset >= 6 && offset < 14 : offset >= 12 && offset < 28;
  return (offset >= 6 && offset < 24) || (offset >= 28 && offset < 32) || offset == 512;
}

void compare_data(std::string &out, const Case &c, const Decoded &d, const Outcome &native, const Outcome &emulated) {
  if (std::memcmp(native.data, emulated.data, kDataSize) == 0) return;
  for (unsigned n = 0; n < kDataSize; ++n) {
    if (native.data[n] == emulated.data[n] || ignored_byte(d, c, n)) continue;
    const unsigned at = n & ~7u;
    out += fmt::format("  memory at {:#x}: native {}, abyme {}, before {}\n", kData + at, hex(native.data + at, 8),
                       hex(emulated.data + at, 8), hex(c.data + at, 8));
    n = at + 7;
    if (out.size() > 2000) return;
  }
}

void compare_stop(std::string &out, const Decoded &d, const Stop &native, const Stop &emulated) {
  if (native.fault != emulated.fault || (native.fault && native.vector != emulated.vector)) {
    const auto text = [](const Stop &s) {
      return s.fault ? fmt::format("exception {}", s.vector) : std::string("none");
    };
    out += fmt::format("  stop: native {}, abyme {}\n", text(native), text(emulated));
    return;
  }
  if (!native.fault) return;
  if (native.vector == x86::PF) {
    if (!saves_fpu_area(d) && !is_environment(d)) differ(out, "cr2", native.cr2, emulated.cr2);
    // Linux reports every fault beyond user space as a protection violation (arch/x86/mm/fault.c hides its mappings).
    const u32 mask = native.cr2 >= (1ull << 47) - kPage ? ~1u : ~0u;
    differ(out, "error code", native.error & mask, emulated.error & mask);
  } else if (native.vector == x86::GP || native.vector == x86::SS_) {
    differ(out, "error code", native.error, emulated.error);
  }
}

void compare_x87(std::string &out, const State &native, const State &emulated) {
  differ(out, "fcw", native.fcw, emulated.fcw);
  differ(out, "fsw", native.fsw, emulated.fsw);
  differ(out, "ftw", native.tags, emulated.tags);
  for (unsigned n = 0; n < 8; ++n) differ_bytes(out, fmt::format("st{}", n), native.st[n], emulated.st[n], 10);
}

} // namespace

std::string listed_differences() {
  std::string s;
  for (const auto &row : kListed) s += fmt::format("{}: {}\n", row.what, row.reason);
  return s;
}

std::string compare(const Case &c, const Decoded &d, const Outcome &native, const Outcome &emulated) {
  std::string out;
  if (is_unaligned_sha(d, native, emulated) || is_masked_move_fault(d, native, emulated) ||
      is_call_with_two_faults(d, native, emulated) || is_partial_area_fault(d, native, emulated) ||
      is_memory_cvtpi2ps_with_pending(d, emulated) || is_misaligned_mode(native) ||
      is_exact_tiny_half(d, native, emulated))
    return out;
  const State &n = native.state, &e = emulated.state;
  compare_stop(out, d, native.stop, emulated.stop);
  for (unsigned i = 0; i < (is_faulting_popa(d, native) ? 0u : c.compatible ? 8u : 16u); ++i)
    differ(out, kGprNames[i], n.gpr[i], e.gpr[i]);
  differ(out, "rip", n.rip, e.rip);
  const u64 flags =
      (x86::rflags::kStatus | x86::rflags::DF) & ~(native.stop.fault ? 0 : undefined_flags(d, shift_count(c, d)));
  differ(out, "rflags", n.rflags & flags, e.rflags & flags);
  const u32 status = comparable_mxcsr(d, native);
  differ(out, "mxcsr", n.mxcsr & status, e.mxcsr & status);
  for (unsigned i = 0; i < 16; ++i) differ_bytes(out, fmt::format("ymm{}", i), n.ymm[i], e.ymm[i], 32);
  compare_x87(out, n, e);
  compare_data(out, c, d, native, emulated);
  return out;
}

} // namespace abyme::differential
