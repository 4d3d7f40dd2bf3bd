#include "soft/system/flags.hpp"
#include "soft/system/instructions.hpp"

// Fast system calls (SDM 3A §5.8.7, §5.8.8). Segments get fixed contents; no descriptor is read.
namespace abyme::soft::system {

using namespace x86;

namespace {

enum class Width : u8 { Bits32, Bits64 };

void load_flat_segments(Cpu &cpu, u16 cs, u16 ss, u8 cpl, Width width) {
  constexpr u32 kCodeType = 11, kDataType = 3;
  u32 common = Segment::kSystemBit | Segment::kPresent | Segment::kGranularity | static_cast<u32>(cpl) << 5;
  u32 size = width == Width::Bits64 ? Segment::kLong : Segment::kBig;
  cpu.segments[CS] = {0, 0xFFFFFFFF, common | kCodeType | size, static_cast<u16>((cs & ~3) | cpl)};
  cpu.segments[SS] = {0, 0xFFFFFFFF, common | kDataType | Segment::kBig, static_cast<u16>((ss & ~3) | cpl)};
  cpu.cpl = cpl;
}

bool has_syscall(const Cpu &cpu) { return cpu.code64() && cpu.efer & efer::SCE; }

} // namespace

Outcome syscall(Cpu &cpu, const Op &) {
  if (!has_syscall(cpu)) return raise(cpu, UD);
  cpu.gpr[RCX] = cpu.next_rip;
  cpu.gpr[R11] = rflags(cpu) & ~rflags::RF;
  u16 selector = static_cast<u16>(cpu.msr.star >> 32);
  load_flat_segments(cpu, selector & ~3, static_cast<u16>((selector & ~3) + 8), 0, Width::Bits64);
  cpu.rip = cpu.msr.lstar;
  write_flags(cpu, 0, cpu.msr.sfmask & ~rflags::kFixed);
  mode_changed(cpu);
  return Outcome::Branch;
}

Outcome sysret(Cpu &cpu, const Op &op) {
  if (!has_syscall(cpu)) return raise(cpu, UD);
  bool wide = op.size == 8;
  if (cpu.cpl != 0 || (wide && !canonical(cpu, cpu.gpr[RCX]))) return raise(cpu, GP, 0);
  u16 selector = static_cast<u16>(cpu.msr.star >> 48);
  cpu.rip = wide ? cpu.gpr[RCX] : static_cast<u32>(cpu.gpr[RCX]);
  load_flat_segments(cpu, static_cast<u16>(selector + (wide ? 16 : 0)), static_cast<u16>(selector + 8), 3,
                     wide ? Width::Bits64 : Width::Bits32);
  write_flags(cpu, cpu.gpr[R11] & ~(rflags::RF | rflags::VM), ~0ull);
  mode_changed(cpu);
  return Outcome::Branch;
}

Outcome sysenter(Cpu &cpu, const Op &) {
  if (!cpu.protected_mode() || !(cpu.msr.sysenter_cs & 0xFFFC)) return raise(cpu, GP, 0);
  bool wide = cpu.long_mode();
  u16 selector = static_cast<u16>(cpu.msr.sysenter_cs & 0xFFFC);
  cpu.gpr[RSP] = wide ? cpu.msr.sysenter_esp : static_cast<u32>(cpu.msr.sysenter_esp);
  cpu.rip = wide ? cpu.msr.sysenter_eip : static_cast<u32>(cpu.msr.sysenter_eip);
  load_flat_segments(cpu, selector, static_cast<u16>(selector + 8), 0, wide ? Width::Bits64 : Width::Bits32);
  write_flags(cpu, 0, rflags::VM | rflags::IF | rflags::RF);
  mode_changed(cpu);
  return Outcome::Branch;
}

Outcome sysexit(Cpu &cpu, const Op &op) {
  if (!cpu.protected_mode() || !(cpu.msr.sysenter_cs & 0xFFFC) || cpu.cpl != 0) return raise(cpu, GP, 0);
  bool wide = op.size == 8;
  u64 rip = cpu.gpr[RDX], rsp = cpu.gpr[RCX];
  if (wide && (!canonical(cpu, rip) || !canonical(cpu, rsp))) return raise(cpu, GP, 0);
  u16 selector = static_cast<u16>(cpu.msr.sysenter_cs);
  cpu.rip = wide ? rip : static_cast<u32>(rip);
  cpu.gpr[RSP] = wide ? rsp : static_cast<u32>(rsp);
  load_flat_segments(cpu, static_cast<u16>(selector + (wide ? 32 : 16)), static_cast<u16>(selector + (wide ? 40 : 24)),
                     3, wide ? Width::Bits64 : Width::Bits32);
  mode_changed(cpu);
  return Outcome::Branch;
}

} // namespace abyme::soft::system
