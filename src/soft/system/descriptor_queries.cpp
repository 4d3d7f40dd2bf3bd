#include "soft/mmu/access.hpp"
#include "soft/system/instructions.hpp"
#include <algorithm>

// LAR, LSL, VERR, VERW, ARPL: questions about selectors, answered in ZF (SDM 3A §5.10).
namespace abyme::soft::system {

using namespace x86;

namespace {

constexpr u32 kLarTypes = 1 << kTss16 | 1 << kLdt | 1 << kTss16Busy | 1 << kCallGate16 | 1 << kTaskGate | 1 << kTss32 |
                          1 << kTss32Busy | 1 << kCallGate32;
constexpr u32 kLslTypes = 1 << kTss16 | 1 << kLdt | 1 << kTss16Busy | 1 << kTss32 | 1 << kTss32Busy;
constexpr u32 kLongModeTypes = 1 << kLdt | 1 << kTss32 | 1 << kTss32Busy | 1 << kCallGate32;

void set_zf(Cpu &cpu, bool set) {
  constexpr u64 kZf = pack_status(rflags::ZF);
  cpu.status = set ? cpu.status | kZf : cpu.status & ~kZf;
}

struct Query {
  u16 selector = 0;
  Descriptor d;
  bool found = false; // names a descriptor inside its table
};

// False: the answer is cpu.fault.
bool query(Cpu &cpu, const Op &op, Query &q) {
  if (!cpu.protected_mode() || cpu.v86()) {
    (void)raise(cpu, UD);
    return false;
  }
  u64 value;
  if (!read_rm(cpu, op, 2, value)) return false;
  q.selector = static_cast<u16>(value);
  return peek_descriptor(cpu, q.selector, q.d, q.found);
}

bool visible(const Cpu &cpu, const Query &q) {
  return q.d.conforming() || q.d.dpl() >= std::max<u32>(cpu.cpl, q.selector & 3);
}

bool answers(const Cpu &cpu, const Query &q, u32 system_types) {
  if (!q.found || !visible(cpu, q)) return false;
  u32 types = cpu.long_mode() ? system_types & kLongModeTypes : system_types;
  return !q.d.is_system() || types >> q.d.type() & 1;
}

} // namespace

Outcome lar(Cpu &cpu, const Op &op) {
  Query q;
  if (!query(cpu, op, q)) return Outcome::Fault;
  bool ok = answers(cpu, q, kLarTypes);
  set_zf(cpu, ok);
  if (ok) write_register(cpu, op.reg, op.size, q.d.raw >> 32 & 0xF0FF00);
  return Outcome::Next;
}

Outcome lsl(Cpu &cpu, const Op &op) {
  Query q;
  if (!query(cpu, op, q)) return Outcome::Fault;
  bool ok = answers(cpu, q, kLslTypes);
  set_zf(cpu, ok);
  if (ok) write_register(cpu, op.reg, op.size, q.d.limit());
  return Outcome::Next;
}

Outcome verr(Cpu &cpu, const Op &op) {
  Query q;
  if (!query(cpu, op, q)) return Outcome::Fault;
  set_zf(cpu, q.found && q.d.readable() && visible(cpu, q));
  return Outcome::Next;
}

Outcome verw(Cpu &cpu, const Op &op) {
  Query q;
  if (!query(cpu, op, q)) return Outcome::Fault;
  set_zf(cpu, q.found && q.d.writable_data() && visible(cpu, q));
  return Outcome::Next;
}

Outcome arpl(Cpu &cpu, const Op &op) {
  if (!cpu.protected_mode() || cpu.v86()) return raise(cpu, UD);
  u64 destination, source = read_register(cpu, op.reg, 2);
  if (!read_rm(cpu, op, 2, destination)) return Outcome::Fault;
  bool raised = (destination & 3) < (source & 3);
  if (raised && !write_rm(cpu, op, 2, (destination & ~3ull) | (source & 3))) return Outcome::Fault;
  set_zf(cpu, raised);
  return Outcome::Next;
}

} // namespace abyme::soft::system
