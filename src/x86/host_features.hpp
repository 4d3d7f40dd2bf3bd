#pragma once
#include "x86/features.hpp"
#include <functional>
#include <span>

namespace abyme::x86 {

// What an engine can give a guest here: the bound of every CPU model.
struct HostFeatures {
  std::string source; // who offers it, for messages: "the software CPU", "KVM on this host"
  FeatureSet features;
  VmxFeatureSet vmx_features;
  u8 physical_bits = 40;
  u64 tsc_hz = 1'000'000'000;
  std::vector<CpuidLeaf> xsave_components; // subleaves 2.. of CPUID 0xD that the features above need
};

using CpuidFunction = std::function<CpuidLeaf(u32 leaf, u32 subleaf)>;

// The CPU that abyme runs on.
[[nodiscard]] CpuidLeaf host_cpuid(u32 leaf, u32 subleaf);
// Bits of XCR0 that the host's kernel has enabled, 0 without XSAVE.
[[nodiscard]] u64 host_xcr0();

// What the software CPU implements, as far as this host executes it natively.
[[nodiscard]] HostFeatures software_cpu_features();
[[nodiscard]] HostFeatures software_cpu_features(const CpuidFunction &cpuid, u64 xcr0);

// The features that a table of CPUID leaves (KVM_GET_SUPPORTED_CPUID) offers. VMX features are the caller's to add.
[[nodiscard]] HostFeatures features_of(std::string source, const CpuidFunction &cpuid, u64 tsc_hz);

} // namespace abyme::x86
