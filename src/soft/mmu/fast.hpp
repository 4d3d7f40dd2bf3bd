#pragma once
#include "soft/cpu.hpp"

// The part of a memory access that is inlined into handlers: a TLB probe, and out of line whatever it does not answer.
namespace abyme::soft {

struct Loaded {
  u64 value;
  bool ok;
};

// Out of line: page crossings, misses, MMIO, faults. Sizes 1, 2, 4 and 8.
[[nodiscard]] Loaded load_slow(Cpu &cpu, u64 linear, unsigned size);
[[nodiscard]] Loaded load_for_write_slow(Cpu &cpu, u64 linear, unsigned size); // faults as a write would: the first half of a read-modify-write
[[nodiscard]] bool store_slow(Cpu &cpu, u64 linear, u64 value, unsigned size);

[[gnu::always_inline]] inline u64 page_tag(const Cpu &cpu, u64 last_byte) { return (last_byte & ~0xFFFull) | cpu.tlb_context; }

[[gnu::always_inline]] inline u8 *probe_tlb_read(const Cpu &cpu, u64 linear, unsigned size) {
  const TlbEntry &e = cpu.tlb->entries[Tlb::index(linear, cpu.tlb_salt)];
  if (e.read == page_tag(cpu, linear + size - 1)) [[likely]]
    return reinterpret_cast<u8 *>(linear + e.addend);
  return nullptr;
}

[[gnu::always_inline]] inline u8 *probe_tlb_write(const Cpu &cpu, u64 linear, unsigned size) {
  const TlbEntry &e = cpu.tlb->entries[Tlb::index(linear, cpu.tlb_salt)];
  if (e.write == page_tag(cpu, linear + size - 1)) [[likely]]
    return reinterpret_cast<u8 *>(linear + e.addend);
  return nullptr;
}

// Guest memory is shared with other vCPUs: one access of the full width, ordered as the host orders it (TSO on both sides).
// A T anywhere in memory: x86 does not mind.
template <class T> struct Anywhere {
  typedef T type __attribute__((aligned(1)));
};
template <class T> [[gnu::always_inline]] inline T host_load(const u8 *p) { return *reinterpret_cast<const volatile typename Anywhere<T>::type *>(p); }
template <class T> [[gnu::always_inline]] inline void host_store(u8 *p, T v) { *reinterpret_cast<volatile typename Anywhere<T>::type *>(p) = v; }

template <class T> [[gnu::always_inline]] inline Loaded load(Cpu &cpu, u64 linear) {
  if (const u8 *p = probe_tlb_read(cpu, linear, sizeof(T))) [[likely]]
    return {host_load<T>(p), true};
  return load_slow(cpu, linear, sizeof(T));
}

template <class T> [[gnu::always_inline]] inline bool store(Cpu &cpu, u64 linear, T value) {
  if (u8 *p = probe_tlb_write(cpu, linear, sizeof(T))) [[likely]] {
    host_store<T>(p, value);
    return true;
  }
  return store_slow(cpu, linear, value, sizeof(T));
}

} // namespace abyme::soft
