// Decimal adjustments, which 64-bit hosts do not have (SDM 2A AAA, AAD, AAM, AAS, DAA, DAS). Flags that the manual
// leaves undefined follow the result or are cleared.
#include "soft/hostexec/manual.hpp"
#include <bit>

namespace abyme::soft::hostexec {
namespace {

using namespace x86::rflags;

u8 &al(Cpu &cpu) { return *reinterpret_cast<u8 *>(&cpu.gpr[x86::RAX]); }
u16 &ax(Cpu &cpu) { return *reinterpret_cast<u16 *>(&cpu.gpr[x86::RAX]); }

u64 result_flags(u8 value) { return (value ? 0 : ZF) | (value & 0x80 ? SF : 0) | (std::popcount(value) & 1 ? 0 : PF); }
void set_flags(Cpu &cpu, u64 flags) { cpu.status = pack_status(flags); }
u64 flags_of(const Cpu &cpu) { return unpack_status(cpu.status); }

Outcome adjust_ascii(Cpu &cpu, int step) {
  const bool adjust = (al(cpu) & 15) > 9 || flags_of(cpu) & AF;
  if (adjust) ax(cpu) = static_cast<u16>(ax(cpu) + step);
  al(cpu) &= 15;
  set_flags(cpu, result_flags(al(cpu)) | (adjust ? AF | CF : 0));
  return Outcome::Next;
}

// DAA adds what DAS subtracts.
Outcome adjust_decimal(Cpu &cpu, int sign) {
  const u8 before = al(cpu);
  const u64 flags = flags_of(cpu);
  u64 out = 0;
  u8 value = before;
  if ((before & 15) > 9 || flags & AF) {
    value = static_cast<u8>(value + sign * 6);
    out |= AF;
    if (flags & CF || (sign > 0 ? before > 0xF9 : before < 6)) out |= CF;
  }
  if (before > 0x99 || flags & CF) {
    value = static_cast<u8>(value + sign * 0x60);
    out |= CF;
  }
  al(cpu) = value;
  set_flags(cpu, result_flags(value) | out);
  return Outcome::Next;
}

} // namespace

Outcome aaa(Cpu &cpu, const Op &, const Plan &) { return adjust_ascii(cpu, 0x106); }
Outcome aas(Cpu &cpu, const Op &, const Plan &) { return adjust_ascii(cpu, -0x106); }
Outcome daa(Cpu &cpu, const Op &, const Plan &) { return adjust_decimal(cpu, 1); }
Outcome das(Cpu &cpu, const Op &, const Plan &) { return adjust_decimal(cpu, -1); }

Outcome aam(Cpu &cpu, const Op &, const Plan &plan) {
  if (!plan.imm) return raise(cpu, x86::DE);
  const u8 value = al(cpu);
  ax(cpu) = static_cast<u16>(value / plan.imm << 8 | value % plan.imm);
  set_flags(cpu, result_flags(al(cpu)));
  return Outcome::Next;
}

Outcome aad(Cpu &cpu, const Op &, const Plan &plan) {
  const u16 value = ax(cpu);
  ax(cpu) = static_cast<u8>((value & 0xFF) + (value >> 8) * plan.imm);
  set_flags(cpu, result_flags(al(cpu)));
  return Outcome::Next;
}

} // namespace abyme::soft::hostexec
