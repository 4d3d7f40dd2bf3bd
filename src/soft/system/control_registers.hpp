#pragma once
#include "soft/cpu.hpp"

namespace abyme::soft::system {

// Bits of CR4 that this CPU's features make writable.
[[nodiscard]] u64 cr4_writable(const x86::CpuProfile &profile);
[[nodiscard]] u64 efer_writable(const x86::CpuProfile &profile);

} // namespace abyme::soft::system
