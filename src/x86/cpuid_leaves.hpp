#pragma once
#include "x86/cpu_models.hpp"

namespace abyme::x86 {

// Fills in the leaves of `profile` from its features and model: what CPUID answers (SDM 2A CPUID).
void build_leaves(CpuProfile &profile, const CpuModel &model, const HostFeatures &available, unsigned cpus);

} // namespace abyme::x86
