// BT, BTS, BTR, BTC, BSF, BSR, XADD, CMPXCHG and its wide kin.
#include "soft/interp/flags.hpp"
#include "soft/interp/forms.hpp"
#include "soft/interp/handlers.hpp"

namespace abyme::soft {
namespace {

template <BitTest B, class T> [[gnu::always_inline]] inline T change_bit(T value, unsigned bit) {
  const T mask = static_cast<T>(T{1} << bit);
  if constexpr (B == BitTest::Bts) return value | mask;
  if constexpr (B == BitTest::Btr) return value & static_cast<T>(~mask);
  if constexpr (B == BitTest::Btc) return value ^ mask;
  return value;
}

[[gnu::always_inline]] inline void set_carry(Cpu &cpu, bool on) { cpu.status = (cpu.status & ~flags::kCarry) | (on ? flags::kCarry : 0); }

template <BitTest B, class T, bool Immediate> const Op *bit_r(Cpu &cpu, const Op *op) {
  const unsigned bit = (Immediate ? static_cast<u64>(op->imm) : reg<u64>(cpu, op->reg)) & (8 * sizeof(T) - 1);
  const T value = reg<T>(cpu, op->rm);
  if constexpr (B != BitTest::Bt) set_reg<T>(cpu, op->rm, change_bit<B>(value, bit));
  set_carry(cpu, value >> bit & 1);
  ABYME_NEXT(cpu, op);
}

// A register bit offset is signed and reaches beyond the operand (SDM 2A BT): the address moves by whole operands.
template <class T> Located locate_bit(Cpu &cpu, const Op *op, i64 bit, bool write) {
  const u64 ea = effective_address(cpu, *op) + static_cast<u64>(bit >> (sizeof(T) == 2 ? 4 : sizeof(T) == 4 ? 5 : 6)) * sizeof(T);
  const u64 masked = op->address_size == 8 ? ea : op->address_size == 4 ? static_cast<u32>(ea) : static_cast<u16>(ea);
  u64 linear = 0;
  const bool ok = to_linear(cpu, operand_segment(*op), masked, sizeof(T), write, linear);
  return {linear, ok};
}

template <BitTest B, class T, bool Immediate> const Op *bit_m(Cpu &cpu, const Op *op) {
  const i64 offset = Immediate ? op->imm & static_cast<i64>(8 * sizeof(T) - 1) : static_cast<std::make_signed_t<T>>(reg<T>(cpu, op->reg));
  const unsigned bit = static_cast<unsigned>(offset) & (8 * sizeof(T) - 1);
  const Located at = locate_bit<T>(cpu, op, offset, B != BitTest::Bt);
  if (!at.ok) [[unlikely]] return leave_faulted(cpu, op);
  if constexpr (B == BitTest::Bt) {
    const Loaded v = load<T>(cpu, at.linear);
    if (!v.ok) [[unlikely]] return leave_faulted(cpu, op);
    set_carry(cpu, v.value >> bit & 1);
    ABYME_NEXT(cpu, op);
  }
  u8 *p = (op->flags & kOpLock) ? locked_pointer(cpu, at.linear, sizeof(T)) : nullptr;
  if (p) {
    T old = __atomic_load_n(reinterpret_cast<T *>(p), __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(reinterpret_cast<T *>(p), &old, change_bit<B>(old, bit), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
    }
    set_carry(cpu, old >> bit & 1);
    ABYME_NEXT(cpu, op);
  }
  if ((op->flags & kOpLock) && cpu.fault.kind != Fault::Kind::None) return leave_faulted(cpu, op);
  lock_memory(cpu);
  const Loaded old = load_for_write_slow(cpu, at.linear, sizeof(T));
  const bool ok = old.ok && store_slow(cpu, at.linear, change_bit<B>(static_cast<T>(old.value), bit), sizeof(T));
  unlock_memory(cpu);
  if (!ok) [[unlikely]] return leave_faulted(cpu, op);
  set_carry(cpu, old.value >> bit & 1);
  ABYME_NEXT(cpu, op);
}

template <BitTest B, class T> Handler pick_bit(const Op &op, bool immediate) {
  if (op.flags & kOpMemory) return immediate ? bit_m<B, T, true> : bit_m<B, T, false>;
  return immediate ? bit_r<B, T, true> : bit_r<B, T, false>;
}
template <BitTest B> Handler pick_bit_size(const Op &op, bool immediate) {
  return op.size == 2 ? pick_bit<B, u16>(op, immediate) : op.size == 4 ? pick_bit<B, u32>(op, immediate) : pick_bit<B, u64>(op, immediate);
}

template <class T, bool Reverse> const Op *scan(Cpu &cpu, const Op *op) {
  const Loaded v = op->flags & kOpMemory ? (flat64(cpu, *op) ? load_operand<Addressing::Flat64, T>(cpu, op) : load_operand<Addressing::Any, T>(cpu, op))
                                         : Loaded{reg<T>(cpu, op->rm), true};
  if (!v.ok) [[unlikely]] return leave_faulted(cpu, op);
  const T from = static_cast<T>(v.value), to = reg<T>(cpu, op->reg);
  const T result = Reverse ? flags::bsr<T>(to, from, cpu.status) : flags::bsf<T>(to, from, cpu.status);
  if (from != 0) set_reg<T>(cpu, op->reg, result); // a zero source leaves all 64 bits alone
  ABYME_NEXT(cpu, op);
}

template <class T> Outcome xadd(Cpu &cpu, const Op &op) {
  const T b = reg<T>(cpu, op.reg);
  T old = 0;
  const u64 before = cpu.status;
  if (op.flags & kOpMemory) {
    // Unlocked, too, it may be atomic: nobody can tell.
    if (!modify_locked<T>(cpu, &op, [&](T a) {
          old = a;
          return flags::add<T>(a, b, cpu.status);
        })) {
      cpu.status = before;
      return Outcome::Fault;
    }
    set_reg<T>(cpu, op.reg, old);
    return Outcome::Next;
  }
  old = reg<T>(cpu, op.rm);
  const T sum = flags::add<T>(old, b, cpu.status);
  set_reg<T>(cpu, op.reg, old);
  set_reg<T>(cpu, op.rm, sum);
  return Outcome::Next;
}

template <class T> Outcome cmpxchg(Cpu &cpu, const Op &op) {
  const T wanted = reg<T>(cpu, op.reg), expected = reg<T>(cpu, x86::RAX * 8);
  T old = 0;
  if (op.flags & kOpMemory) {
    // The destination is written whatever the comparison says (SDM 2A CMPXCHG), so it must be writable.
    if (!modify_locked<T>(cpu, &op, [&](T a) {
          old = a;
          return a == expected ? wanted : a;
        }))
      return Outcome::Fault;
  } else {
    old = reg<T>(cpu, op.rm);
    if (old == expected) set_reg<T>(cpu, op.rm, wanted);
  }
  (void)flags::sub<T>(expected, old, cpu.status);
  // Equal: EAX is not written, so its upper half stays (64-bit mode); unequal: it gets the destination.
  if (old != expected) set_reg<T>(cpu, x86::RAX * 8, old);
  return Outcome::Next;
}

// CMPXCHG8B and CMPXCHG16B: T is the whole operand, H a half.
template <class T, class H> [[gnu::target("cx16")]] Outcome cmpxchg_wide(Cpu &cpu, const Op &op) {
  constexpr unsigned kShift = 8 * sizeof(H);
  const T expected = static_cast<T>(reg<H>(cpu, x86::RDX * 8)) << kShift | reg<H>(cpu, x86::RAX * 8);
  const T wanted = static_cast<T>(reg<H>(cpu, x86::RCX * 8)) << kShift | reg<H>(cpu, x86::RBX * 8);
  u64 linear;
  if (!operand_linear(cpu, op, sizeof(T), true, linear)) return Outcome::Fault;
  if (sizeof(T) == 16 && linear % 16 != 0) return raise(cpu, x86::GP, 0);
  T old = 0;
  if (u8 *p = locked_pointer(cpu, linear, sizeof(T))) {
    old = __sync_val_compare_and_swap(reinterpret_cast<T *>(p), expected, wanted);
  } else {
    if (cpu.fault.kind != Fault::Kind::None) return Outcome::Fault;
    const std::lock_guard lock(*cpu.bus_lock);
    if (!probe_write(cpu, linear, sizeof(T)) || !read_linear(cpu, linear, &old, sizeof(T))) return Outcome::Fault;
    const T result = old == expected ? wanted : old;
    if (!write_linear(cpu, linear, &result, sizeof(T))) return Outcome::Fault;
  }
  const bool equal = old == expected;
  cpu.status = (cpu.status & ~flags::kZero) | (equal ? flags::kZero : 0);
  if (!equal) {
    set_reg<H>(cpu, x86::RAX * 8, static_cast<H>(old));
    set_reg<H>(cpu, x86::RDX * 8, static_cast<H>(old >> kShift));
  }
  return Outcome::Next;
}

} // namespace

Handler bit_test_handler(const Op &op, BitTest operation, bool immediate) {
  switch (operation) {
  case BitTest::Bt: return pick_bit_size<BitTest::Bt>(op, immediate);
  case BitTest::Bts: return pick_bit_size<BitTest::Bts>(op, immediate);
  case BitTest::Btr: return pick_bit_size<BitTest::Btr>(op, immediate);
  case BitTest::Btc: break;
  }
  return pick_bit_size<BitTest::Btc>(op, immediate);
}

Handler bit_scan_handler(const Cpu &, const Op &op, bool reverse) {
  if (reverse) return op.size == 2 ? scan<u16, true> : op.size == 4 ? scan<u32, true> : scan<u64, true>;
  return op.size == 2 ? scan<u16, false> : op.size == 4 ? scan<u32, false> : scan<u64, false>;
}

SlowHandler xadd_handler(const Op &op) {
  return op.size == 1 ? xadd<u8> : op.size == 2 ? xadd<u16> : op.size == 4 ? xadd<u32> : xadd<u64>;
}
SlowHandler cmpxchg_handler(const Op &op) {
  return op.size == 1 ? cmpxchg<u8> : op.size == 2 ? cmpxchg<u16> : op.size == 4 ? cmpxchg<u32> : cmpxchg<u64>;
}
SlowHandler cmpxchg_wide_handler(const Op &op) { return op.size == 8 ? cmpxchg_wide<u128, u64> : cmpxchg_wide<u64, u32>; }

} // namespace abyme::soft
