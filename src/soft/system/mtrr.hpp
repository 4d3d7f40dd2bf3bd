#pragma once
#include "soft/cpu.hpp"

// Memory types: MTRRs and PAT keep what the guest wrote, with its validity checked (SDM 3A §12.11, §12.12). Memory is
// write-back whatever they say. False: #GP(0).
namespace abyme::soft::system {

constexpr u64 kMtrrCap = 8 | 1 << 8 | 1 << 10; // eight variable ranges, the fixed ones, write-combining

[[nodiscard]] bool read_mtrr_variable(const Cpu &cpu, u32 msr, u64 &value);
[[nodiscard]] bool write_mtrr_variable(Cpu &cpu, u32 msr, u64 value);
[[nodiscard]] bool read_mtrr_fixed(const Cpu &cpu, u32 msr, u64 &value);
[[nodiscard]] bool write_mtrr_fixed(Cpu &cpu, u32 msr, u64 value);
[[nodiscard]] bool write_mtrr_def_type(Cpu &cpu, u32 msr, u64 value);
[[nodiscard]] bool write_pat(Cpu &cpu, u32 msr, u64 value);

} // namespace abyme::soft::system
