#pragma once
#include "soft/cpu.hpp"
#include "soft/decode/block.hpp"
#include "soft/mmu/mmu.hpp"

// How handlers hand over to one another. In optimized builds each tail-calls the next (GCC turns it into a jump; no address of a local may
// escape from a handler, or it cannot). Sanitizers and -O0 builds return the next Op to the loop in run_block() instead.
#if defined(ABYME_SANITIZE) || !defined(__OPTIMIZE__)
#define ABYME_DISPATCH(cpu, op) return (op)
#else
#define ABYME_DISPATCH(cpu, op)                                                                                                                \
  do {                                                                                                                                         \
    const ::abyme::soft::Op *to_ = (op);                                                                                                       \
    return to_->handler(cpu, to_);                                                                                                             \
  } while (0)
#endif
// On to the next instruction of the block.
#define ABYME_NEXT(cpu, op) ABYME_DISPATCH(cpu, (op) + 1)

namespace abyme::soft {

template <class T> [[gnu::always_inline]] inline T &reg(Cpu &cpu, u8 offset) {
  return *reinterpret_cast<T *>(reinterpret_cast<u8 *>(cpu.gpr) + offset);
}
// Writes a register as an instruction of T's width does: 32-bit results are zero-extended.
template <class T> [[gnu::always_inline]] inline void set_reg(Cpu &cpu, u8 offset, T value) {
  if constexpr (sizeof(T) == 4)
    reg<u64>(cpu, offset) = value;
  else
    reg<T>(cpu, offset) = value;
}

[[gnu::always_inline]] inline u64 page_rip(const Cpu &cpu) { return cpu.gpr[Op::kRipSlot / 8]; }
[[nodiscard]] inline u64 rip_mask(const Cpu &cpu) {
  return cpu.mode & kModeCode64 ? ~0ull : cpu.mode & kModeCode32 ? 0xFFFFFFFFull : 0xFFFFull;
}
[[gnu::always_inline]] inline u64 rip_of(const Cpu &cpu, const Op *op) { return page_rip(cpu) + op->offset; }
[[gnu::always_inline]] inline u64 next_rip_of(const Cpu &cpu, const Op *op) { return page_rip(cpu) + op->offset + op->length; }

// Address of a memory operand in 64-bit mode with 64-bit addresses: nothing to check before the TLB probe.
[[gnu::always_inline]] inline u64 address64(Cpu &cpu, const Op *op) {
  return reg<u64>(cpu, op->base) + (reg<u64>(cpu, op->index) << op->scale) + static_cast<i64>(op->disp) + cpu.segments[op->segment].base;
}

// Leaves the block because cpu.fault is set: the instruction at `op` has not happened.
const Op *leave_faulted(Cpu &cpu, const Op *op);
// Leaves the block behind the instruction at `op`, with cpu.rip set by the caller.
const Op *leave_after(Cpu &cpu, const Op *op);
// The handler of an op whose code has been overwritten: leaves the block so that it is decoded again.
const Op *stale(Cpu &cpu, const Op *op);
const Op *stale_end(Cpu &cpu, const Op *op); // the same for the op behind the last instruction
// The handler for all instructions that have a SlowHandler.
const Op *run_slow(Cpu &cpu, const Op *op);
// The op behind a block's last instruction.
const Op *end_of_block(Cpu &cpu, const Op *op);

// The block at cpu.rip, if its page is in the fetch TLB and it is decoded.
[[gnu::always_inline]] inline Block *probe_block(Cpu &cpu, u64 rip) {
  const u64 linear = cpu.mode & kModeCode64 ? rip : static_cast<u32>(cpu.segments[x86::CS].base + rip);
  const mmu::FetchEntry &f = cpu.mmu->fetch[linear >> 12 & 0xFF];
  if (f.tag != ((linear & kPageMask) | cpu.tlb_context)) return nullptr;
  Block *b = f.page->find(linear & 0xFFF, cpu.mode);
  if (b && b->second) return nullptr;
  cpu.gpr[Op::kRipSlot / 8] = rip - (linear & 0xFFF);
  return b;
}

// Goes on with a block whose RIP the caller has stored in cpu.rip.
#define ABYME_ENTER(cpu, block)                                                                                                                \
  do {                                                                                                                                         \
    const ::abyme::soft::Block *into_ = (block);                                                                                               \
    if (!into_ || (cpu).attention.load(std::memory_order_relaxed)) [[unlikely]]                                                                \
      return nullptr;                                                                                                                          \
    (cpu).instructions += into_->count;                                                                                                        \
    ABYME_DISPATCH(cpu, into_->ops);                                                                                                           \
  } while (0)

} // namespace abyme::soft
