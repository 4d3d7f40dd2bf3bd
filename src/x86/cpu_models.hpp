#pragma once
#include "base/result.hpp"
#include "x86/host_features.hpp"

namespace abyme::x86 {

// A CPU that a guest can be given, by name.
struct CpuModel {
  std::string_view name;
  std::string_view about;
  u8 family, stepping;
  u8 model;
  FeatureSet features;        // the model is refused where one of them cannot be had
  FeatureSet where_available; // taken where offered: `max` is made of these alone
  VmxFeatureSet vmx_features; // what VT-x has besides its base, where it can be had
  struct Cache {
    u8 level, type; // type: 1 data, 2 instruction, 3 unified
    u32 ways, sets;
    bool shared; // by all cores, or private to one
  };
  std::vector<Cache> caches;
};

[[nodiscard]] std::span<const CpuModel> cpu_models();

// The CPU that `spec` asks for: MODEL[,+feature,-feature]..., an empty MODEL meaning max. Refused, naming the features,
// if it asks for what `available` does not have. `cpus` is the number of vCPUs, at least 1.
[[nodiscard]] Result<CpuProfile> make_profile(std::string_view spec, const HostFeatures &available, unsigned cpus);

} // namespace abyme::x86
