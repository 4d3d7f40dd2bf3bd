#pragma once
#include "soft/system/descriptor.hpp"
#include "soft/system/system.hpp"

// The handlers of handlers.cpp's table, by file.
namespace abyme::soft::system {

// Goes on behind an instruction after which the block must end.
[[nodiscard]] inline Outcome end_block(Cpu &cpu) {
  cpu.rip = cpu.next_rip;
  return Outcome::Branch;
}
// #GP(0) unless CPL is 0.
[[nodiscard]] inline bool privileged(Cpu &cpu) { return cpu.cpl == 0 || fail(cpu, x86::GP, 0); }
[[nodiscard]] inline u32 low32(const Cpu &cpu, x86::Gpr r) { return static_cast<u32>(cpu.gpr[r]); }

// Register operands by byte offset (Op::reg, Op::rm).
[[nodiscard]] u64 read_register(const Cpu &cpu, u8 offset, unsigned size);
void write_register(Cpu &cpu, u8 offset, unsigned size, u64 value);
// The ModRM.rm operand, register or memory.
[[nodiscard]] bool read_rm(Cpu &cpu, const Op &op, unsigned size, u64 &value);
[[nodiscard]] bool write_rm(Cpu &cpu, const Op &op, unsigned size, u64 value);

// flags.cpp
Outcome pushf(Cpu &cpu, const Op &op);
Outcome popf(Cpu &cpu, const Op &op);
Outcome cli(Cpu &cpu, const Op &op);
Outcome sti(Cpu &cpu, const Op &op);

// iret.cpp
Outcome iret(Cpu &cpu, const Op &op);

// syscall.cpp
Outcome syscall(Cpu &cpu, const Op &op);
Outcome sysret(Cpu &cpu, const Op &op);
Outcome sysenter(Cpu &cpu, const Op &op);
Outcome sysexit(Cpu &cpu, const Op &op);

// control_registers.cpp
Outcome clts(Cpu &cpu, const Op &op);
Outcome lmsw(Cpu &cpu, const Op &op);
Outcome smsw(Cpu &cpu, const Op &op);
Outcome xgetbv(Cpu &cpu, const Op &op);
Outcome xsetbv(Cpu &cpu, const Op &op);

// descriptor_tables.cpp
Outcome lgdt(Cpu &cpu, const Op &op);
Outcome lidt(Cpu &cpu, const Op &op);
Outcome sgdt(Cpu &cpu, const Op &op);
Outcome sidt(Cpu &cpu, const Op &op);
Outcome lldt(Cpu &cpu, const Op &op);
Outcome sldt(Cpu &cpu, const Op &op);
Outcome ltr(Cpu &cpu, const Op &op);
Outcome str(Cpu &cpu, const Op &op);

// descriptor_queries.cpp
Outcome lar(Cpu &cpu, const Op &op);
Outcome lsl(Cpu &cpu, const Op &op);
Outcome verr(Cpu &cpu, const Op &op);
Outcome verw(Cpu &cpu, const Op &op);
Outcome arpl(Cpu &cpu, const Op &op);

// segment_moves.cpp
Outcome lds(Cpu &cpu, const Op &op);
Outcome les(Cpu &cpu, const Op &op);
Outcome lss(Cpu &cpu, const Op &op);
Outcome lfs(Cpu &cpu, const Op &op);
Outcome lgs(Cpu &cpu, const Op &op);
Outcome swapgs(Cpu &cpu, const Op &op);
Outcome rdfsbase(Cpu &cpu, const Op &op);
Outcome rdgsbase(Cpu &cpu, const Op &op);
Outcome wrfsbase(Cpu &cpu, const Op &op);
Outcome wrgsbase(Cpu &cpu, const Op &op);

// software_interrupts.cpp
Outcome int_n(Cpu &cpu, const Op &op);
Outcome int3(Cpu &cpu, const Op &op);
Outcome into(Cpu &cpu, const Op &op);
Outcome int1(Cpu &cpu, const Op &op);
Outcome bound(Cpu &cpu, const Op &op);
Outcome undefined(Cpu &cpu, const Op &op);

// invalidation.cpp
Outcome invlpg(Cpu &cpu, const Op &op);
Outcome invpcid(Cpu &cpu, const Op &op);
Outcome invd(Cpu &cpu, const Op &op);
Outcome wbinvd(Cpu &cpu, const Op &op);
Outcome clflush(Cpu &cpu, const Op &op);
Outcome clflushopt(Cpu &cpu, const Op &op);
Outcome clwb(Cpu &cpu, const Op &op);

// waiting.cpp
Outcome hlt(Cpu &cpu, const Op &op);
Outcome pause(Cpu &cpu, const Op &op);
Outcome monitor(Cpu &cpu, const Op &op);
Outcome mwait(Cpu &cpu, const Op &op);

// counters.cpp
Outcome rdtsc(Cpu &cpu, const Op &op);
Outcome rdtscp(Cpu &cpu, const Op &op);
Outcome rdpmc(Cpu &cpu, const Op &op);
Outcome rdpid(Cpu &cpu, const Op &op);

// msr_instructions.cpp
Outcome rdmsr(Cpu &cpu, const Op &op);
Outcome wrmsr(Cpu &cpu, const Op &op);

// cpuid.cpp
Outcome cpuid(Cpu &cpu, const Op &op);

} // namespace abyme::soft::system
