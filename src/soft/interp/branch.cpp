// Near jumps, calls and returns. Those that stay in their page go from block to block through a Link; the others probe the fetch TLB.
#include "soft/interp/flags.hpp"
#include "soft/interp/handlers.hpp"
#include "soft/interp/stack.hpp"

namespace abyme::soft {
namespace {

using namespace x86;

Link *link_of(const Op *op) { return static_cast<Link *>(const_cast<void *>(op->data)); }

[[gnu::always_inline]] inline bool canonical(u64 rip) { return static_cast<u64>(static_cast<i64>(rip << 16) >> 16) == rip; }

// The block at cpu.rip, noted in `slot` where that stays right for as long as the branch's own block lives: in the same page.
[[gnu::noinline]] Block *follow(Cpu &cpu, const Op *op, Block *Link::*slot) {
  Block *b = probe_block(cpu, cpu.rip);
  Link *link = link_of(op);
  if (b && b->page == link->page) link->*slot = b;
  return b;
}

template <u8 C> const Op *jcc64(Cpu &cpu, const Op *op) {
  const Link *link = link_of(op);
  if (flags::holds<C>(cpu.status)) {
    cpu.rip = page_rip(cpu) + static_cast<u64>(op->imm);
    ABYME_ENTER(cpu, link->taken ? link->taken : follow(cpu, op, &Link::taken));
  }
  cpu.rip = next_rip_of(cpu, op);
  ABYME_ENTER(cpu, link->not_taken ? link->not_taken : follow(cpu, op, &Link::not_taken));
}

const Op *jmp64(Cpu &cpu, const Op *op) {
  const Link *link = link_of(op);
  cpu.rip = page_rip(cpu) + static_cast<u64>(op->imm);
  ABYME_ENTER(cpu, link->taken ? link->taken : follow(cpu, op, &Link::taken));
}

const Op *call64(Cpu &cpu, const Op *op) {
  const u64 top = cpu.gpr[RSP] - 8;
  if (!store<u64>(cpu, top, next_rip_of(cpu, op))) [[unlikely]] return leave_faulted(cpu, op);
  cpu.gpr[RSP] = top;
  const Link *link = link_of(op);
  cpu.rip = page_rip(cpu) + static_cast<u64>(op->imm);
  ABYME_ENTER(cpu, link->taken ? link->taken : follow(cpu, op, &Link::taken));
}

[[gnu::noinline]] const Op *bad_target(Cpu &cpu, const Op *op) {
  (void)raise(cpu, GP, 0);
  return leave_faulted(cpu, op);
}

const Op *ret64(Cpu &cpu, const Op *op) {
  const Loaded v = load<u64>(cpu, cpu.gpr[RSP]);
  if (!v.ok) [[unlikely]] return leave_faulted(cpu, op);
  if (!canonical(v.value)) [[unlikely]] return bad_target(cpu, op);
  cpu.gpr[RSP] += 8 + static_cast<u64>(op->imm);
  cpu.rip = v.value;
  ABYME_ENTER(cpu, probe_block(cpu, v.value));
}

template <bool Memory> const Op *jmp_indirect64(Cpu &cpu, const Op *op) {
  const Loaded v = Memory ? load_operand<Addressing::Flat64, u64>(cpu, op) : Loaded{reg<u64>(cpu, op->rm), true};
  if (!v.ok) [[unlikely]] return leave_faulted(cpu, op);
  if (!canonical(v.value)) [[unlikely]] return bad_target(cpu, op);
  cpu.rip = v.value;
  ABYME_ENTER(cpu, probe_block(cpu, v.value));
}

// The push of a call faulted, whatever the memory operand's segment was.
[[gnu::noinline]] const Op *bad_stack(Cpu &cpu, const Op *op) {
  if (cpu.fault.kind == Fault::Kind::Exception && cpu.fault.non_canonical) (void)raise(cpu, SS_, 0);
  return leave_faulted(cpu, op);
}

template <bool Memory> const Op *call_indirect64(Cpu &cpu, const Op *op) {
  const Loaded v = Memory ? load_operand<Addressing::Flat64, u64>(cpu, op) : Loaded{reg<u64>(cpu, op->rm), true};
  if (!v.ok) [[unlikely]] return leave_faulted(cpu, op);
  if (!canonical(v.value)) [[unlikely]] return bad_target(cpu, op);
  const u64 top = cpu.gpr[RSP] - 8;
  if (!store<u64>(cpu, top, next_rip_of(cpu, op))) [[unlikely]] return bad_stack(cpu, op);
  cpu.gpr[RSP] = top;
  cpu.rip = v.value;
  ABYME_ENTER(cpu, probe_block(cpu, v.value));
}

// --- every mode: with the code segment's limit, and operand sizes that truncate the target ---

Outcome jump_to(Cpu &cpu, u64 target, unsigned size) {
  if (size == 2) target &= 0xFFFF;
  if (!cpu.code64()) {
    target &= 0xFFFFFFFF;
    if (target > cpu.segments[CS].limit) return raise(cpu, GP, 0);
  } else if (!canonical(target)) {
    return raise(cpu, GP, 0);
  }
  cpu.rip = target;
  return Outcome::Branch;
}

u64 direct_target(const Cpu &cpu, const Op &op) { return page_rip(cpu) + static_cast<u64>(op.imm); }

template <u8 C> Outcome jcc_any(Cpu &cpu, const Op &op) {
  return flags::holds<C>(cpu.status) ? jump_to(cpu, direct_target(cpu, op), op.size) : Outcome::Next;
}
Outcome jmp_any(Cpu &cpu, const Op &op) { return jump_to(cpu, direct_target(cpu, op), op.size); }

Outcome call_to(Cpu &cpu, const Op &op, u64 target) {
  // A target beyond the limit comes before a fault of the push (SDM 2A CALL).
  if (jump_to(cpu, target, op.size) == Outcome::Fault || !push(cpu, cpu.next_rip, op.size)) return Outcome::Fault;
  return Outcome::Branch;
}
Outcome call_any(Cpu &cpu, const Op &op) { return call_to(cpu, op, direct_target(cpu, op)); }

Outcome ret_any(Cpu &cpu, const Op &op) {
  u64 target = 0;
  if (!peek(cpu, 0, target, op.size)) return Outcome::Fault;
  const Outcome out = jump_to(cpu, target, op.size);
  if (out == Outcome::Branch) move_stack_pointer(cpu, op.size + op.imm);
  return out;
}

bool indirect_target(Cpu &cpu, const Op &op, u64 &target) {
  if (op.flags & kOpMemory) return read_operand(cpu, op, &target, op.size);
  target = reg<u64>(cpu, op.rm);
  if (op.size == 4) target &= 0xFFFFFFFF;
  return true;
}
Outcome jmp_indirect_any(Cpu &cpu, const Op &op) {
  u64 target = 0;
  return indirect_target(cpu, op, target) ? jump_to(cpu, target, op.size) : Outcome::Fault;
}
Outcome call_indirect_any(Cpu &cpu, const Op &op) {
  u64 target = 0;
  return indirect_target(cpu, op, target) ? call_to(cpu, op, target) : Outcome::Fault;
}

template <Loop K> Outcome loop(Cpu &cpu, const Op &op) {
  const u64 mask = op.address_size == 8 ? ~0ull : op.address_size == 4 ? 0xFFFFFFFFull : 0xFFFFull;
  const u64 before = cpu.gpr[RCX];
  u64 count = before & mask;
  bool taken = count == 0;
  if constexpr (K != Loop::Jcxz) {
    count = (count - 1) & mask;
    cpu.gpr[RCX] = mask == 0xFFFF ? (before & ~mask) | count : count;
    const bool zero = cpu.status & flags::kZero;
    taken = count != 0 && (K == Loop::Loop || zero == (K == Loop::Loope));
  }
  if (!taken) return Outcome::Next;
  const Outcome out = jump_to(cpu, direct_target(cpu, op), op.size);
  if (out == Outcome::Fault) cpu.gpr[RCX] = before;
  return out;
}

template <size_t... C> Handler jcc64_by_condition(u8 condition, std::index_sequence<C...>) {
  static constexpr Handler table[] = {jcc64<C>...};
  return table[condition];
}
template <size_t... C> SlowHandler jcc_any_by_condition(u8 condition, std::index_sequence<C...>) {
  static constexpr SlowHandler table[] = {jcc_any<C>...};
  return table[condition];
}

bool fast(const Cpu &cpu, const Op &op) { return cpu.code64() && op.size == 8; }

} // namespace

Handler jcc_handler(const Cpu &cpu, const Op &op) { return fast(cpu, op) ? jcc64_by_condition(op.condition, std::make_index_sequence<16>{}) : nullptr; }
SlowHandler jcc_slow_handler(const Op &op) { return jcc_any_by_condition(op.condition, std::make_index_sequence<16>{}); }
Handler jmp_handler(const Cpu &cpu, const Op &op) { return fast(cpu, op) ? jmp64 : nullptr; }
SlowHandler jmp_slow_handler() { return jmp_any; }
Handler call_handler(const Cpu &cpu, const Op &op) { return fast(cpu, op) ? call64 : nullptr; }
SlowHandler call_slow_handler() { return call_any; }
Handler ret_handler(const Cpu &cpu, const Op &op) { return fast(cpu, op) ? ret64 : nullptr; }
SlowHandler ret_slow_handler() { return ret_any; }

Handler jmp_indirect_handler(const Cpu &cpu, const Op &op) {
  if (!fast(cpu, op)) return nullptr;
  if (!(op.flags & kOpMemory)) return jmp_indirect64<false>;
  return flat64(cpu, op) ? jmp_indirect64<true> : nullptr;
}
SlowHandler jmp_indirect_slow_handler() { return jmp_indirect_any; }
Handler call_indirect_handler(const Cpu &cpu, const Op &op) {
  if (!fast(cpu, op)) return nullptr;
  if (!(op.flags & kOpMemory)) return call_indirect64<false>;
  return flat64(cpu, op) ? call_indirect64<true> : nullptr;
}
SlowHandler call_indirect_slow_handler() { return call_indirect_any; }

SlowHandler loop_handler(Loop kind) {
  switch (kind) {
  case Loop::Loop: return loop<Loop::Loop>;
  case Loop::Loope: return loop<Loop::Loope>;
  case Loop::Loopne: return loop<Loop::Loopne>;
  case Loop::Jcxz: break;
  }
  return loop<Loop::Jcxz>;
}

} // namespace abyme::soft
