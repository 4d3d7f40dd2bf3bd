#include "soft/interp/dispatch.hpp"

namespace abyme::soft {
namespace {

// Blocks count their instructions when they are entered; whoever leaves early gives back those from `op` on.
void give_back(Cpu &cpu, const Op *op) {
  u64 left = 0;
  for (; op->handler != end_of_block && op->handler != stale_end; op++) left++;
  cpu.instructions -= left;
}

u64 rip_at(const Cpu &cpu, const Op *op) { return rip_of(cpu, op) & rip_mask(cpu); }

} // namespace

const Op *leave_faulted(Cpu &cpu, const Op *op) {
  Fault &f = cpu.fault;
  // 64-bit code finds out only now that the address is not canonical: for the stack segment that is #SS (SDM 1 §3.3.7.1).
  const bool stack = (op->flags & kOpStackSegment) && cpu.code64();
  if (stack && f.kind == Fault::Kind::Exception && f.non_canonical) f.event.vector = x86::SS_;
  cpu.rip = rip_at(cpu, op);
  give_back(cpu, op);
  return nullptr;
}

const Op *leave_after(Cpu &cpu, const Op *op) {
  give_back(cpu, op + 1);
  return nullptr;
}

const Op *stale(Cpu &cpu, const Op *op) {
  cpu.rip = rip_at(cpu, op);
  give_back(cpu, op);
  return nullptr;
}

const Op *stale_end(Cpu &cpu, const Op *op) {
  cpu.rip = rip_at(cpu, op);
  return nullptr;
}

const Op *run_slow(Cpu &cpu, const Op *op) {
  cpu.rip = rip_at(cpu, op);
  cpu.next_rip = next_rip_of(cpu, op) & rip_mask(cpu);
  switch (op->slow(cpu, *op)) {
  case Outcome::Next:
    // STI, MOV SS, POPF and the like want to be looked at before the next instruction.
    if (cpu.attention.load(std::memory_order_relaxed)) [[unlikely]] {
      cpu.rip = cpu.next_rip;
      return leave_after(cpu, op);
    }
    ABYME_NEXT(cpu, op);
  case Outcome::Branch: break;
  case Outcome::Fault: return leave_faulted(cpu, op);
  }
  leave_after(cpu, op);
  if (cpu.attention.load(std::memory_order_relaxed) || cpu.activity != Activity::Active) return nullptr;
  ABYME_ENTER(cpu, probe_block(cpu, cpu.rip));
}

const Op *end_of_block(Cpu &cpu, const Op *op) {
  cpu.rip = rip_at(cpu, op);
  ABYME_ENTER(cpu, probe_block(cpu, cpu.rip));
}

} // namespace abyme::soft
