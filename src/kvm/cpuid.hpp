#pragma once
#include "kvm/system.hpp"
#include <linux/kvm.h>

namespace abyme::kvm {

// The features of the profile that KVM here does not offer; empty if it can be run.
[[nodiscard]] x86::FeatureSet not_offered(const x86::CpuProfile &profile, const x86::HostFeatures &host);

// What KVM_SET_CPUID2 takes for the vCPU with this APIC ID. A profile with the hypervisor bit also gets KVM's own
// leaves, by which a guest finds its clock and cheaper IPIs.
[[nodiscard]] std::vector<kvm_cpuid_entry2> cpuid_entries(const x86::CpuProfile &profile, const System &system,
                                                          u32 apic_id);

} // namespace abyme::kvm
