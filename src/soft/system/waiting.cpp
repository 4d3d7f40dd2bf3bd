#include "soft/mmu/access.hpp"
#include "soft/system/instructions.hpp"
#include "soft/vmx/vmx.hpp"
#include "x86/msr.hpp"
#include <sched.h>

// HLT, PAUSE, MONITOR and MWAIT.
namespace abyme::soft::system {

using namespace x86;
using vmx::Instruction;

Outcome hlt(Cpu &cpu, const Op &op) {
  if (!privileged(cpu)) return Outcome::Fault;
  if (vmx::intercepts(cpu, op, Instruction::Hlt)) return Outcome::Branch;
  // STI; HLT waits with interrupts enabled: HLT is the instruction that ends STI's shadow.
  cpu.shadow = 0;
  cpu.activity = Activity::Halted;
  cpu.need(kAttentionEvents | kAttentionInterrupt);
  return end_block(cpu);
}

namespace {

// PAUSEs that are no further apart are of one loop, and a loop of so many waits for longer than a lock is held.
constexpr u64 kLoopInstructions = 32;
constexpr u32 kLoopPauses = 256;

// On a host with fewer CPUs than vCPUs what the loop waits for may need this thread's time: Linux's queued locks are
// handed to one vCPU after the other, and each would have to wait for its turn behind all that spin.
void let_others_run(Cpu &cpu) {
  const bool in_loop = cpu.instructions - cpu.last_pause <= kLoopInstructions;
  cpu.last_pause = cpu.instructions;
  cpu.pauses = in_loop ? cpu.pauses + 1 : 0;
  if (cpu.pauses < kLoopPauses) return;
  cpu.pauses = 0;
  ::sched_yield();
}

} // namespace

Outcome pause(Cpu &cpu, const Op &op) {
  if (vmx::intercepts(cpu, op, Instruction::Pause)) return Outcome::Branch;
  let_others_run(cpu);
  return end_block(cpu);
}

namespace {

bool has_monitor(const Cpu &cpu) {
  return cpu.profile->has(Feature::monitor) && cpu.msr.misc_enable & msr::misc_enable::MWAIT && cpu.cpl == 0;
}

} // namespace

Outcome monitor(Cpu &cpu, const Op &op) {
  if (!has_monitor(cpu)) return raise(cpu, UD);
  if (vmx::intercepts(cpu, op, Instruction::Monitor)) return Outcome::Branch;
  if (low32(cpu, RCX) != 0) return raise(cpu, GP, 0);
  u64 mask = op.address_size == 8 ? ~0ull : op.address_size == 4 ? 0xFFFFFFFF : 0xFFFF;
  u64 linear;
  return outcome(to_linear(cpu, DS, cpu.gpr[RAX] & mask, 1, false, linear) && probe_read(cpu, linear, 1),
                 Outcome::Next);
}

// Any event may end the wait, and none is lost by not waiting at all: MWAIT returns at once (SDM 2B MWAIT).
Outcome mwait(Cpu &cpu, const Op &op) {
  if (!has_monitor(cpu)) return raise(cpu, UD);
  if (vmx::intercepts(cpu, op, Instruction::Mwait)) return Outcome::Branch;
  if (low32(cpu, RCX) & ~1u) return raise(cpu, GP, 0);
  return end_block(cpu);
}

} // namespace abyme::soft::system
