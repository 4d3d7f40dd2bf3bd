// Execution of stubs: the gates, the memory operand, SIMD exceptions.
#include "soft/hostexec/hostexec.hpp"
#include "soft/hostexec/mxcsr.hpp"
#include "soft/hostexec/plan.hpp"
#include "soft/hostexec/x87.hpp"
#include "soft/mmu/access.hpp"
#include "soft/mmu/fast.hpp"
#include <cstring>

namespace abyme::soft::hostexec {
namespace {

using namespace x86;

// Largest memory operand that a stub handles; XSAVE areas are written by hand.
constexpr unsigned kMaxOperand = 64;

bool fault(Cpu &cpu, u8 vector) {
  (void)raise(cpu, vector);
  return false;
}

bool admit_sse(Cpu &cpu) {
  if (cpu.cr0 & cr0::EM || !(cpu.cr4 & cr4::OSFXSR)) return fault(cpu, UD);
  if (cpu.cr0 & cr0::TS) return fault(cpu, NM);
  return true;
}

bool vex_allowed(const Cpu &cpu) { return !(cpu.mode & (kModeReal | kModeV86)); }

bool admit_avx(Cpu &cpu) {
  if (!vex_allowed(cpu) || !(cpu.cr4 & cr4::OSXSAVE) || (cpu.xcr0 & 6) != 6) return fault(cpu, UD);
  if (cpu.cr0 & cr0::TS) return fault(cpu, NM);
  return true;
}

// Copies the operand in and out: it crosses pages, is not RAM, or lies beside code.
bool execute_bounced(Cpu &cpu, const Op &op, const Plan &plan, u64 linear) {
  alignas(64) u8 buffer[kMaxOperand] = {};
  if (plan.writes && !probe_write(cpu, linear, plan.size)) return false;
  // An x87 store that an unmasked exception stops leaves memory as it was.
  const bool read = plan.reads || (plan.writes && plan.unit == Unit::X87);
  if (read && !read_linear(cpu, linear, buffer, plan.size)) return false;
  if (plan.unit == Unit::X87) note_pointers(cpu, op, plan);
  plan.stub(&cpu, buffer);
  return !plan.writes || write_linear(cpu, linear, buffer, plan.size);
}

// The registers that an instruction may change, to take them back.
struct Saved {
  u64 gpr[16];
  u64 status;
  u8 ymm[16][32];
  u8 x87[160];
  explicit Saved(const Cpu &cpu) : status(cpu.status) {
    std::memcpy(x87, cpu.x87, sizeof x87);
    std::memcpy(gpr, cpu.gpr, sizeof gpr);
    std::memcpy(ymm, cpu.ymm, sizeof ymm);
  }
  void restore(Cpu &cpu) const {
    std::memcpy(cpu.gpr, gpr, sizeof gpr);
    std::memcpy(cpu.ymm, ymm, sizeof ymm);
    cpu.status = status;
  }
};

// The registers stay, but where the x87 unit has become the MMX registers by the time an exception is found, it is
// that.
void restore_mmx(Cpu &cpu, const Saved &before) {
  const X87Image after = image(cpu);
  std::memcpy(cpu.x87, before.x87, sizeof before.x87);
  set_top(image(cpu), after.fsw >> 11 & 7);
  image(cpu).tags = after.tags;
}

// The exception flags that one execution raises. An unmasked underflow is signalled for every tiny result, a masked one
// only for inexact ones (SDM 1 §4.9.1.5); with FTZ the host flags all of them.
u32 raised_by(Cpu &cpu, const Plan &plan, const Saved &before, void *memory) {
  const u32 control = cpu.mxcsr & kMxcsrControl;
  const bool underflow_unmasked = !(cpu.mxcsr & kMxcsrUnderflow << kMxcsrMaskShift);
  u32 underflow = 0;
  if (underflow_unmasked) {
    alignas(64) u8 scratch[kMaxOperand];
    if (memory) std::memcpy(scratch, memory, kMaxOperand);
    load_mxcsr(control | kMxcsrAllMasked | kMxcsrFlushToZero);
    plan.stub(&cpu, scratch);
    underflow = store_mxcsr() & kMxcsrUnderflow;
    before.restore(cpu);
  }
  load_mxcsr((control & ~(underflow_unmasked ? kMxcsrFlushToZero : 0u)) | kMxcsrAllMasked);
  plan.stub(&cpu, memory);
  return (store_mxcsr() & kMxcsrFlags) | underflow;
}

} // namespace

bool admit(Cpu &cpu, const Plan &plan) {
  switch (plan.unit) {
  case Unit::General: return true;
  case Unit::GeneralVex: return vex_allowed(cpu) || fault(cpu, UD);
  case Unit::Sse: return admit_sse(cpu);
  case Unit::Avx: return admit_avx(cpu);
  case Unit::X87:
  case Unit::X87Control: return admit_x87(cpu, plan);
  case Unit::Mmx: return admit_mmx(cpu);
  case Unit::MmxSse: return admit_sse(cpu) && admit_mmx(cpu);
  }
  return true;
}

bool locate(Cpu &cpu, const Op &op, const Plan &plan, u64 &linear) {
  if (!operand_linear(cpu, op, plan.size, plan.writes, linear)) return false;
  if (linear & (plan.alignment - 1u)) {
    (void)raise(cpu, GP, 0);
    return false;
  }
  return true;
}

bool execute_memory(Cpu &cpu, const Op &op, const Plan &plan) {
  u64 linear = 0;
  if (!locate(cpu, op, plan, linear)) return false;
  if (u8 *p = host_pointer(cpu, linear, plan.size, plan.writes)) {
    if (plan.unit == Unit::X87) note_pointers(cpu, op, plan);
    plan.stub(&cpu, p);
    return true;
  }
  return cpu.fault.kind == Fault::Kind::None && execute_bounced(cpu, op, plan, linear);
}

bool execute_unmasked(Cpu &cpu, const Op &op, const Plan &plan) {
  alignas(64) u8 buffer[kMaxOperand] = {};
  u64 linear = 0;
  if (plan.size) {
    if (!locate(cpu, op, plan, linear)) return false;
    if (plan.writes && !probe_write(cpu, linear, plan.size)) return false;
    if (plan.reads && !read_linear(cpu, linear, buffer, plan.size)) return false;
  }
  sync_mxcsr(cpu);
  const bool mmx = uses_x87(plan.unit);
  if (mmx) unload_x87(cpu);
  const Saved before(cpu);
  if (mmx) load_x87(cpu);
  const u32 raised = raised_by(cpu, plan, before, plan.size ? buffer : nullptr);
  if (mmx) unload_x87(cpu);
  const u32 unmasked = raised & ~(cpu.mxcsr >> kMxcsrMaskShift);
  load_host_mxcsr(cpu);
  if (!unmasked) {
    cpu.mxcsr |= raised;
    return !plan.writes || write_linear(cpu, linear, buffer, plan.size);
  }
  // Exceptions found before the computation keep those after it from being looked for (SDM 1 §11.5.2).
  constexpr u32 kBefore = kMxcsrInvalid | kMxcsrDenormal | kMxcsrDivide;
  cpu.mxcsr |= unmasked & kBefore ? raised & kBefore : raised;
  before.restore(cpu);
  if (mmx) restore_mmx(cpu, before);
  return fault(cpu, cpu.cr4 & cr4::OSXMMEXCPT ? XM : UD);
}

namespace {

void execute_registers(Cpu &cpu, const Op &op, const Plan &plan) {
  if (plan.unit == Unit::X87) note_pointers(cpu, op, plan);
  plan.stub(&cpu, nullptr);
}

// The gates of this instruction are not all open.
bool execute_gated(Cpu &cpu, const Op &op, const Plan &plan) {
  if (!admit(cpu, plan)) return false;
  bool done = true;
  if (cpu.gates & plan.gates & kGateUnmasked)
    done = execute_unmasked(cpu, op, plan);
  else if (plan.size)
    done = execute_memory(cpu, op, plan);
  else
    execute_registers(cpu, op, plan);
  if (uses_x87(plan.unit)) settle_x87(cpu);
  return done;
}

[[gnu::noinline]] const Op *run_gated(Cpu &cpu, const Op *op) {
  if (!execute_gated(cpu, *op, plan_of(*op))) return leave_faulted(cpu, op);
  ABYME_NEXT(cpu, op);
}

[[gnu::noinline]] const Op *run_memory_slow(Cpu &cpu, const Op *op) {
  if (!execute_memory(cpu, *op, plan_of(*op))) return leave_faulted(cpu, op);
  ABYME_NEXT(cpu, op);
}

} // namespace

const Op *run_registers(Cpu &cpu, const Op *op) {
  const Plan &plan = plan_of(*op);
  if (cpu.gates & plan.gates) [[unlikely]]
    return run_gated(cpu, op);
  plan.stub(&cpu, nullptr);
  ABYME_NEXT(cpu, op);
}

const Op *run_memory(Cpu &cpu, const Op *op) {
  const Plan &plan = plan_of(*op);
  if (cpu.gates & plan.gates) [[unlikely]]
    return run_gated(cpu, op);
  if (op->address_size != 8) [[unlikely]]
    return run_memory_slow(cpu, op);
  const u64 linear = address64(cpu, op);
  u8 *const p = plan.writes ? probe_tlb_write(cpu, linear, plan.size) : probe_tlb_read(cpu, linear, plan.size);
  if (!p || linear & (plan.alignment - 1u)) [[unlikely]]
    return run_memory_slow(cpu, op);
  plan.stub(&cpu, p);
  ABYME_NEXT(cpu, op);
}

const Op *run_x87(Cpu &cpu, const Op *op) {
  const Plan &plan = plan_of(*op);
  if (cpu.gates & plan.gates) [[unlikely]]
    return run_gated(cpu, op);
  if (plan.size) return run_memory_slow(cpu, op);
  execute_registers(cpu, *op, plan);
  ABYME_NEXT(cpu, op);
}

const Op *run_manual(Cpu &cpu, const Op *op) {
  const Plan &plan = plan_of(*op);
  cpu.rip = rip_of(cpu, op) & rip_mask(cpu);
  cpu.next_rip = next_rip_of(cpu, op) & rip_mask(cpu);
  if (cpu.gates & plan.gates && !admit(cpu, plan)) return leave_faulted(cpu, op);
  switch (plan.manual(cpu, *op, plan)) {
  case Outcome::Next: ABYME_NEXT(cpu, op);
  case Outcome::Branch: return leave_after(cpu, op);
  case Outcome::Fault: break;
  }
  return leave_faulted(cpu, op);
}

const Op *run_nothing([[maybe_unused]] Cpu &cpu, const Op *op) { ABYME_NEXT(cpu, op); }

// LFENCE, MFENCE and SFENCE: the strongest serves for all.
const Op *run_fence([[maybe_unused]] Cpu &cpu, const Op *op) {
  asm volatile("mfence" : : : "memory");
  ABYME_NEXT(cpu, op);
}

} // namespace abyme::soft::hostexec
