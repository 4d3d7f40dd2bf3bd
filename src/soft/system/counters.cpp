#include "soft/system/instructions.hpp"
#include "soft/vmx/vmx.hpp"

// RDTSC, RDTSCP, RDPMC, RDPID.
namespace abyme::soft::system {

using namespace x86;
using vmx::Instruction;

namespace {

void return_tsc(Cpu &cpu) {
  u64 now = vmx::guest_tsc(cpu, tsc(cpu));
  cpu.gpr[RAX] = static_cast<u32>(now);
  cpu.gpr[RDX] = now >> 32;
}

bool tsc_allowed(Cpu &cpu) {
  bool allowed = !(cpu.cr4 & cr4::TSD) || cpu.cpl == 0;
  return allowed || fail(cpu, GP, 0);
}

} // namespace

Outcome rdtsc(Cpu &cpu, const Op &op) {
  if (!tsc_allowed(cpu)) return Outcome::Fault;
  if (vmx::intercepts(cpu, op, Instruction::Rdtsc)) return Outcome::Branch;
  return_tsc(cpu);
  return Outcome::Next;
}

Outcome rdtscp(Cpu &cpu, const Op &op) {
  if (!cpu.profile->has(Feature::rdtscp) || !vmx::enabled_in_guest(cpu, Instruction::Rdtscp)) return raise(cpu, UD);
  if (!tsc_allowed(cpu)) return Outcome::Fault;
  if (vmx::intercepts(cpu, op, Instruction::Rdtscp)) return Outcome::Branch;
  return_tsc(cpu);
  cpu.gpr[RCX] = static_cast<u32>(cpu.msr.tsc_aux);
  return Outcome::Next;
}

// RDPID shares RDTSCP's control in non-root operation (SDM 3C §26.3).
Outcome rdpid(Cpu &cpu, const Op &op) {
  if (!cpu.profile->has(Feature::rdpid) || !vmx::enabled_in_guest(cpu, Instruction::Rdtscp)) return raise(cpu, UD);
  write_register(cpu, op.rm, cpu.code64() ? 8 : 4, static_cast<u32>(cpu.msr.tsc_aux));
  return Outcome::Next;
}

// CPUID offers no performance counters: no index is valid.
Outcome rdpmc(Cpu &cpu, const Op &op) {
  if (!(cpu.cr4 & cr4::PCE) && cpu.protected_mode() && cpu.cpl != 0) return raise(cpu, GP, 0);
  if (vmx::intercepts(cpu, op, Instruction::Rdpmc)) return Outcome::Branch;
  return raise(cpu, GP, 0);
}

} // namespace abyme::soft::system
