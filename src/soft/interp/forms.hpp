#pragma once
#include "soft/interp/dispatch.hpp"
#include "soft/mmu/access.hpp"
#include "soft/mmu/fast.hpp"

// What the operand forms of an instruction have in common.
namespace abyme::soft {

// Where the operands of a two-operand instruction are. The destination comes first; R is a register, M memory, I an immediate.
enum class Form : u8 { RR, RI, RM, MR, MI };
constexpr unsigned kForms = 5;

// How a memory operand's address is made: 64-bit without checks, or by operand_linear().
enum class Addressing : u8 { Flat64, Any };

[[nodiscard]] inline bool flat64(const Cpu &cpu, const Op &op) { return cpu.code64() && op.address_size == 8; }

// Address of a memory operand; false with a fault only where A is Any.
struct Located {
  u64 linear;
  bool ok;
};
[[nodiscard]] Located locate_any(Cpu &cpu, const Op *op, unsigned size, bool write);

template <Addressing A, class T> [[gnu::always_inline]] inline Located locate_operand(Cpu &cpu, const Op *op, bool write) {
  if constexpr (A == Addressing::Flat64) return {address64(cpu, op), true};
  return locate_any(cpu, op, sizeof(T), write);
}

template <Addressing A, class T> [[gnu::always_inline]] inline Loaded load_operand(Cpu &cpu, const Op *op) {
  const Located at = locate_operand<A, T>(cpu, op, false);
  if (!at.ok) [[unlikely]] return {0, false};
  return load<T>(cpu, at.linear);
}

template <Addressing A, class T> [[gnu::always_inline]] inline bool store_operand(Cpu &cpu, const Op *op, T value) {
  const Located at = locate_operand<A, T>(cpu, op, true);
  if (!at.ok) [[unlikely]] return false;
  return store<T>(cpu, at.linear, value);
}

// Read-modify-write, not atomic. `change` maps the old value to the new one; it is called once, when nothing can fault any more.
template <Addressing A, class T, class Change> [[gnu::always_inline]] inline bool modify_operand(Cpu &cpu, const Op *op, Change change) {
  const Located at = locate_operand<A, T>(cpu, op, true);
  if (!at.ok) [[unlikely]] return false;
  if (u8 *p = probe_tlb_write(cpu, at.linear, sizeof(T))) [[likely]] {
    host_store<T>(p, change(host_load<T>(p)));
    return true;
  }
  const Loaded old = load_for_write_slow(cpu, at.linear, sizeof(T));
  if (!old.ok) [[unlikely]] return false;
  return store_slow(cpu, at.linear, change(static_cast<T>(old.value)), sizeof(T));
}

// The same, atomic with respect to other vCPUs (LOCK).
[[nodiscard]] u8 *locked_pointer(Cpu &cpu, u64 linear, unsigned size); // null: fault set, or no pointer (then the global lock serves)
void lock_memory(Cpu &cpu);
void unlock_memory(Cpu &cpu);

template <class T, class Change> [[gnu::always_inline]] inline bool modify_locked(Cpu &cpu, const Op *op, Change change) {
  const Located at = locate_any(cpu, op, sizeof(T), true);
  if (!at.ok) [[unlikely]] return false;
  if (u8 *p = locked_pointer(cpu, at.linear, sizeof(T))) [[likely]] {
    T *word = reinterpret_cast<T *>(p);
    T old = __atomic_load_n(word, __ATOMIC_RELAXED);
    const u64 status = cpu.status;
    for (;;) {
      T wanted = change(old);
      if (__atomic_compare_exchange_n(word, &old, wanted, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) return true;
      cpu.status = status; // `change` starts again from the flags before
    }
  }
  if (cpu.fault.kind != Fault::Kind::None) return false;
  lock_memory(cpu);
  const Loaded old = load_for_write_slow(cpu, at.linear, sizeof(T));
  const bool ok = old.ok && store_slow(cpu, at.linear, change(static_cast<T>(old.value)), sizeof(T));
  unlock_memory(cpu);
  return ok;
}

// One row of handlers, by operand size: [0] 8, [1] 16, [2] 32, [3] 64 bits.
using BySize = Handler[4];
[[nodiscard]] constexpr unsigned size_index(unsigned bytes) { return bytes == 1 ? 0 : bytes == 2 ? 1 : bytes == 4 ? 2 : 3; }

} // namespace abyme::soft
