#pragma once
#include "soft/cpu.hpp"

// Descriptors of the GDT, LDT and IDT (SDM 3A §3.4.5, §3.5, §6.11) and the tables they come from.
namespace abyme::soft::system {

// Types of system descriptors (SDM 3A table 3-2).
enum SystemType : u8 {
  kTss16 = 1,
  kLdt = 2,
  kTss16Busy = 3,
  kCallGate16 = 4,
  kTaskGate = 5,
  kInterruptGate16 = 6,
  kTrapGate16 = 7,
  kTss32 = 9,
  kTss32Busy = 11,
  kCallGate32 = 12,
  kInterruptGate32 = 14,
  kTrapGate32 = 15,
};

struct Descriptor {
  u64 raw = 0;
  u64 upper = 0;  // bytes 8 to 15 of a 16-byte system descriptor
  u64 linear = 0; // where it lies

  [[nodiscard]] constexpr u32 type() const { return raw >> 40 & 15; }
  [[nodiscard]] constexpr bool is_system() const { return !(raw >> 44 & 1); }
  [[nodiscard]] constexpr u32 dpl() const { return raw >> 45 & 3; }
  [[nodiscard]] constexpr bool present() const { return raw >> 47 & 1; }
  [[nodiscard]] constexpr bool is_long() const { return raw >> 53 & 1; }
  [[nodiscard]] constexpr bool big() const { return raw >> 54 & 1; }
  [[nodiscard]] constexpr bool is_code() const { return !is_system() && (type() & 8); }
  [[nodiscard]] constexpr bool conforming() const { return is_code() && (type() & 4); }
  [[nodiscard]] constexpr bool readable() const { return !is_system() && (!is_code() || (type() & 2)); }
  [[nodiscard]] constexpr bool writable_data() const { return !is_system() && !is_code() && (type() & 2); }
  [[nodiscard]] u64 base() const;
  [[nodiscard]] u32 limit() const;
  [[nodiscard]] x86::Segment segment(u16 selector) const;

  // As a gate.
  [[nodiscard]] constexpr u16 gate_selector() const { return raw >> 16 & 0xFFFF; }
  [[nodiscard]] constexpr u8 gate_parameters() const { return raw >> 32 & 31; }
  [[nodiscard]] constexpr u8 gate_ist() const { return raw >> 32 & 7; }
  [[nodiscard]] u64 gate_offset() const;
};

// Raises and returns false.
[[nodiscard]] bool fail(Cpu &cpu, u8 vector, u32 error);
[[nodiscard]] inline Outcome outcome(bool done, Outcome as = Outcome::Branch) { return done ? as : Outcome::Fault; }

// Error code that names a selector (SDM 3A §6.13).
[[nodiscard]] constexpr u32 selector_error(u16 selector, u32 ext = 0) { return (selector & ~3u) | ext; }
[[nodiscard]] constexpr bool is_null(u16 selector) { return !(selector & ~3u); }

[[nodiscard]] bool canonical(const Cpu &cpu, u64 address);

// Reads the descriptor that `selector` (not null) names. A selector beyond its table is `vector`(selector + ext).
[[nodiscard]] bool read_descriptor(Cpu &cpu, u16 selector, Descriptor &d, u8 vector = x86::GP, u32 ext = 0);
// The same for a system descriptor, which has 16 bytes in IA-32e mode (SDM 3A §3.5, §5.8.3.1).
[[nodiscard]] bool read_system_descriptor(Cpu &cpu, u16 selector, Descriptor &d, u8 vector = x86::GP, u32 ext = 0);
// As read_descriptor() but a selector outside of its table is not a fault: `inside` is false. For LAR, LSL, VERR, VERW.
[[nodiscard]] bool peek_descriptor(Cpu &cpu, u16 selector, Descriptor &d, bool &inside);
// Sets the accessed bit in memory and in `d`, when it is clear.
[[nodiscard]] bool mark_accessed(Cpu &cpu, Descriptor &d);
[[nodiscard]] bool mark_busy(Cpu &cpu, Descriptor &tss, bool busy);

} // namespace abyme::soft::system
