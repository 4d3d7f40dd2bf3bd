#pragma once
#include "x86/cpu_profile.hpp"
#include <Zydis/Zydis.h>

namespace abyme::soft::hostexec {

// Whether a CPU of this profile has the instruction. False also for instruction sets that no profile offers.
[[nodiscard]] bool available(const x86::CpuProfile &profile, const ZydisDecodedInstruction &instruction);

} // namespace abyme::soft::hostexec
