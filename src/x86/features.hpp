#pragma once
#include "x86/cpu_profile.hpp"
#include <optional>
#include <span>
#include <vector>

namespace abyme::x86 {

enum class CpuidRegister : u8 { eax, ebx, ecx, edx };

// Where CPUID says that a CPU has a feature (SDM 2A CPUID, tables 3-8 to 3-20).
struct FeatureBit {
  Feature feature;
  std::string_view name; // as in /proc/cpuinfo
  u32 leaf, subleaf;
  CpuidRegister reg;
  u8 bit;

  // The bit as a mask, if the feature's bit lies in this register of this leaf, else 0.
  [[nodiscard]] constexpr u32 mask_in(u32 l, u32 s, CpuidRegister r) const {
    return leaf == l && subleaf == s && reg == r ? 1u << bit : 0;
  }
};

using FeatureSet = std::bitset<static_cast<size_t>(Feature::kCount)>;
using VmxFeatureSet = std::bitset<static_cast<size_t>(VmxFeature::kCount)>;

// One row a feature, in the order of the enumeration.
[[nodiscard]] std::span<const FeatureBit> feature_table();
[[nodiscard]] const FeatureBit &describe(Feature feature);
[[nodiscard]] std::string_view name_of(VmxFeature feature);
[[nodiscard]] std::optional<Feature> find_feature(std::string_view name);
// The known features that the misspelt name is likely to mean, best first, at most three.
[[nodiscard]] std::vector<std::string_view> similar_features(std::string_view name);
// The candidates within a few edits of `name`, best first, at most three.
[[nodiscard]] std::vector<std::string_view> similar_names(std::string_view name,
                                                          std::span<const std::string_view> candidates);

// The features, of those in `set`, which make no sense without one that `set` lacks: AVX2 without AVX.
[[nodiscard]] FeatureSet without_prerequisite(const FeatureSet &set);
// What `feature` needs and `set` lacks.
[[nodiscard]] std::vector<Feature> missing_prerequisites(Feature feature, const FeatureSet &set);

[[nodiscard]] inline bool contains(const FeatureSet &set, Feature f) { return set[static_cast<size_t>(f)]; }
inline void put(FeatureSet &set, Feature f, bool on = true) { set[static_cast<size_t>(f)] = on; }
[[nodiscard]] FeatureSet make_set(std::initializer_list<Feature> features);
[[nodiscard]] VmxFeatureSet make_set(std::initializer_list<VmxFeature> features);
// "avx, avx2, fma", in the order of the enumeration.
[[nodiscard]] std::string join_names(const FeatureSet &set);

} // namespace abyme::x86
