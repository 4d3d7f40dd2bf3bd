#pragma once
#include "soft/cpu.hpp"

// MXCSR (SDM 1 §10.2.3): the host's holds the guest's rounding, DAZ and FTZ while guest code runs, with every exception
// masked.
namespace abyme::soft::hostexec {

constexpr u32 kMxcsrFlags = 0x3F;
constexpr u32 kMxcsrInvalid = 1, kMxcsrDenormal = 2, kMxcsrDivide = 4, kMxcsrUnderflow = 16;
constexpr unsigned kMxcsrMaskShift = 7;
constexpr u32 kMxcsrAllMasked = kMxcsrFlags << kMxcsrMaskShift;
constexpr u32 kMxcsrFlushToZero = 1u << 15;
constexpr u32 kMxcsrControl = 0xE040; // FTZ, RC, DAZ
constexpr u32 kMxcsrReset = 0x1F80;
constexpr u32 kMxcsrMask = 0xFFFF; // MXCSR_MASK: what software may set

inline void load_mxcsr(u32 value) { asm volatile("ldmxcsr %0" : : "m"(value) : "memory"); }
[[nodiscard]] inline u32 store_mxcsr() {
  u32 value;
  asm volatile("stmxcsr %0" : "=m"(value) : : "memory");
  return value;
}

// The host's MXCSR for this guest, without flags.
inline void load_host_mxcsr(const Cpu &cpu) { load_mxcsr((cpu.mxcsr & kMxcsrControl) | kMxcsrAllMasked); }
// Replaces the guest's MXCSR while its code runs. `value` has no reserved bits.
void set_mxcsr(Cpu &cpu, u32 value);

} // namespace abyme::soft::hostexec
