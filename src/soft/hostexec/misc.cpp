// MXCSR, random numbers, cache lines.
#include "soft/hostexec/hostexec.hpp"
#include "soft/hostexec/manual.hpp"
#include "soft/hostexec/mxcsr.hpp"
#include "soft/mmu/access.hpp"
#include "soft/vmx/vmx.hpp"

namespace abyme::soft::hostexec {

Outcome ldmxcsr(Cpu &cpu, const Op &op, const Plan &) {
  u32 value = 0;
  if (!read_operand(cpu, op, &value, sizeof value)) return Outcome::Fault;
  if (value & ~kMxcsrMask) return raise(cpu, x86::GP, 0);
  set_mxcsr(cpu, value);
  return Outcome::Next;
}

Outcome stmxcsr(Cpu &cpu, const Op &op, const Plan &) {
  sync_mxcsr(cpu);
  return write_operand(cpu, op, &cpu.mxcsr, sizeof cpu.mxcsr) ? Outcome::Next : Outcome::Fault;
}

Outcome random_number(Cpu &cpu, const Op &op, const Plan &plan) {
  const bool seed = plan.mnemonic == ZYDIS_MNEMONIC_RDSEED;
  if (vmx::intercepts(cpu, op, seed ? vmx::Instruction::Rdseed : vmx::Instruction::Rdrand)) return Outcome::Branch;
  plan.stub(&cpu, nullptr);
  return Outcome::Next;
}

// Only the address matters: the host's caches are coherent. It faults as a load does (SDM 2A CLFLUSH).
Outcome flush_line(Cpu &cpu, const Op &op, const Plan &) {
  u64 linear = 0;
  return operand_linear(cpu, op, 1, false, linear) && probe_read(cpu, linear, 1) ? Outcome::Next : Outcome::Fault;
}

} // namespace abyme::soft::hostexec
