#include "x86/features.hpp"
#include <algorithm>
#include <array>

namespace abyme::x86 {
namespace {

using enum Feature;
using enum CpuidRegister;

constexpr u32 kExtended1 = 0x8000'0001;
constexpr u32 kExtended7 = 0x8000'0007;

constexpr FeatureBit kFeatures[] = {
    {sse3, "sse3", 1, 0, ecx, 0},
    {pclmulqdq, "pclmulqdq", 1, 0, ecx, 1},
    {monitor, "monitor", 1, 0, ecx, 3},
    {vmx, "vmx", 1, 0, ecx, 5},
    {ssse3, "ssse3", 1, 0, ecx, 9},
    {fma, "fma", 1, 0, ecx, 12},
    {cx16, "cx16", 1, 0, ecx, 13},
    {pcid, "pcid", 1, 0, ecx, 17},
    {sse4_1, "sse4_1", 1, 0, ecx, 19},
    {sse4_2, "sse4_2", 1, 0, ecx, 20},
    {x2apic, "x2apic", 1, 0, ecx, 21},
    {movbe, "movbe", 1, 0, ecx, 22},
    {popcnt, "popcnt", 1, 0, ecx, 23},
    {tsc_deadline_timer, "tsc_deadline_timer", 1, 0, ecx, 24},
    {aes, "aes", 1, 0, ecx, 25},
    {xsave, "xsave", 1, 0, ecx, 26},
    {avx, "avx", 1, 0, ecx, 28},
    {f16c, "f16c", 1, 0, ecx, 29},
    {rdrand, "rdrand", 1, 0, ecx, 30},
    {hypervisor, "hypervisor", 1, 0, ecx, 31},
    {fpu, "fpu", 1, 0, edx, 0},
    {vme, "vme", 1, 0, edx, 1},
    {de, "de", 1, 0, edx, 2},
    {pse, "pse", 1, 0, edx, 3},
    {tsc, "tsc", 1, 0, edx, 4},
    {msr, "msr", 1, 0, edx, 5},
    {pae, "pae", 1, 0, edx, 6},
    {mce, "mce", 1, 0, edx, 7},
    {cx8, "cx8", 1, 0, edx, 8},
    {apic, "apic", 1, 0, edx, 9},
    {sep, "sep", 1, 0, edx, 11},
    {mtrr, "mtrr", 1, 0, edx, 12},
    {pge, "pge", 1, 0, edx, 13},
    {mca, "mca", 1, 0, edx, 14},
    {cmov, "cmov", 1, 0, edx, 15},
    {pat, "pat", 1, 0, edx, 16},
    {pse36, "pse36", 1, 0, edx, 17},
    {clflush, "clflush", 1, 0, edx, 19},
    {mmx, "mmx", 1, 0, edx, 23},
    {fxsr, "fxsr", 1, 0, edx, 24},
    {sse, "sse", 1, 0, edx, 25},
    {sse2, "sse2", 1, 0, edx, 26},
    {ss, "ss", 1, 0, edx, 27},
    {ht, "ht", 1, 0, edx, 28},
    {fsgsbase, "fsgsbase", 7, 0, ebx, 0},
    {tsc_adjust, "tsc_adjust", 7, 0, ebx, 1},
    {bmi1, "bmi1", 7, 0, ebx, 3},
    {avx2, "avx2", 7, 0, ebx, 5},
    {smep, "smep", 7, 0, ebx, 7},
    {bmi2, "bmi2", 7, 0, ebx, 8},
    {erms, "erms", 7, 0, ebx, 9},
    {invpcid, "invpcid", 7, 0, ebx, 10},
    {rdseed, "rdseed", 7, 0, ebx, 18},
    {adx, "adx", 7, 0, ebx, 19},
    {smap, "smap", 7, 0, ebx, 20},
    {clflushopt, "clflushopt", 7, 0, ebx, 23},
    {clwb, "clwb", 7, 0, ebx, 24},
    {sha_ni, "sha_ni", 7, 0, ebx, 29},
    {umip, "umip", 7, 0, ecx, 2},
    {pku, "pku", 7, 0, ecx, 3},
    {gfni, "gfni", 7, 0, ecx, 8},
    {vaes, "vaes", 7, 0, ecx, 9},
    {vpclmulqdq, "vpclmulqdq", 7, 0, ecx, 10},
    {la57, "la57", 7, 0, ecx, 16},
    {rdpid, "rdpid", 7, 0, ecx, 22},
    {fsrm, "fsrm", 7, 0, edx, 4},
    {md_clear, "md_clear", 7, 0, edx, 10},
    {arch_capabilities, "arch_capabilities", 7, 0, edx, 29},
    {spec_ctrl, "spec_ctrl", 7, 0, edx, 26},
    {pks, "pks", 7, 0, ecx, 31},
    {xsaveopt, "xsaveopt", 0xD, 1, eax, 0},
    {xsavec, "xsavec", 0xD, 1, eax, 1},
    {xgetbv1, "xgetbv1", 0xD, 1, eax, 2},
    {xsaves, "xsaves", 0xD, 1, eax, 3},
    {arat, "arat", 6, 0, eax, 2},
    {syscall, "syscall", kExtended1, 0, edx, 11},
    {nx, "nx", kExtended1, 0, edx, 20},
    {pdpe1gb, "pdpe1gb", kExtended1, 0, edx, 26},
    {rdtscp, "rdtscp", kExtended1, 0, edx, 27},
    {lm, "lm", kExtended1, 0, edx, 29},
    {lahf_lm, "lahf_lm", kExtended1, 0, ecx, 0},
    {abm, "abm", kExtended1, 0, ecx, 5},
    {prefetchw, "prefetchw", kExtended1, 0, ecx, 8},
    {constant_tsc, "constant_tsc", kExtended7, 0, edx, 8},
};
static_assert(std::size(kFeatures) == static_cast<size_t>(Feature::kCount));
static_assert(
    [] {
      for (size_t i = 0; i < std::size(kFeatures); ++i)
        if (kFeatures[i].feature != static_cast<Feature>(i)) return false;
      return true;
    }(),
    "rows stand in the order of the enumeration");

constexpr std::string_view kVmxNames[] = {
    "ept",
    "vpid",
    "unrestricted_guest",
    "preemption_timer",
    "tpr_shadow",
    "virtualize_apic_accesses",
    "vmcs_shadowing",
    "ept_accessed_dirty",
    "ept_1gb",
    "ept_execute_only",
    "invpcid_exiting",
    "rdtscp",
    "xsaves",
    "vmfunc",
    "pml",
    "apic_register_virtualization",
    "virtual_interrupt_delivery",
    "virtualize_x2apic",
    "posted_interrupts",
    "tsc_scaling",
    "ve",
    "mode_based_execute",
    "pause_loop",
    "wbinvd_exiting",
    "descriptor_table",
    "rdrand_exiting",
    "rdseed_exiting",
    "msr_bitmaps",
    "io_bitmaps",
    "monitor_trap",
};
static_assert(std::size(kVmxNames) == static_cast<size_t>(VmxFeature::kCount));

struct Prerequisite {
  Feature feature, needs;
};
// Software takes the left as proof of the right.
constexpr Prerequisite kPrerequisites[] = {
    {sse, fxsr},
    {sse2, sse},
    {sse3, sse2},
    {ssse3, sse3},
    {sse4_1, ssse3},
    {sse4_2, sse4_1},
    {aes, sse2},
    {pclmulqdq, sse2},
    {sha_ni, ssse3},
    {gfni, sse2},
    {avx, xsave},
    {avx, sse4_2},
    {avx2, avx},
    {fma, avx},
    {f16c, avx},
    {vaes, avx},
    {vaes, aes},
    {vpclmulqdq, avx},
    {vpclmulqdq, pclmulqdq},
    {xsaveopt, xsave},
    {xsavec, xsave},
    {xgetbv1, xsave},
    {xsaves, xsavec},
    {pku, xsave},
    {invpcid, pcid},
    {pcid, lm},
    {lm, syscall},
    {lm, pae},
    {lm, nx},
    {la57, lm},
    {lahf_lm, lm},
    {pdpe1gb, lm},
    {x2apic, apic},
    {tsc_deadline_timer, apic},
    {vmx, msr},
    {fxsr, mmx},
};

constexpr size_t kMaxSuggestions = 3;

// The edit distance in which swapping two neighbours is one edit.
size_t edits(std::string_view a, std::string_view b) {
  std::vector<std::vector<size_t>> cost(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) {
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        cost[i][j] = i + j;
        continue;
      }
      cost[i][j] = std::min({cost[i - 1][j - 1] + (a[i - 1] != b[j - 1]), cost[i - 1][j] + 1, cost[i][j - 1] + 1});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  }
  return cost[a.size()][b.size()];
}

} // namespace

std::span<const FeatureBit> feature_table() { return kFeatures; }

const FeatureBit &describe(Feature feature) { return kFeatures[static_cast<size_t>(feature)]; }

std::string_view name_of(VmxFeature feature) { return kVmxNames[static_cast<size_t>(feature)]; }

std::optional<Feature> find_feature(std::string_view name) {
  const auto *row = std::ranges::find(kFeatures, name, &FeatureBit::name);
  if (row == std::end(kFeatures)) return std::nullopt;
  return row->feature;
}

std::vector<std::string_view> similar_names(std::string_view name, std::span<const std::string_view> candidates) {
  constexpr size_t kLongestName = 64; // a longer one is no misspelling, and the distance costs its length
  if (name.size() > kLongestName) return {};
  std::vector<std::pair<size_t, std::string_view>> ranked;
  for (const auto candidate : candidates) {
    const size_t distance = edits(name, candidate);
    if (distance <= std::max<size_t>(1, candidate.size() / 2)) ranked.emplace_back(distance, candidate);
  }
  std::ranges::stable_sort(ranked, {}, &std::pair<size_t, std::string_view>::first);
  std::vector<std::string_view> out;
  for (const auto &[distance, candidate] : ranked)
    if (out.size() < kMaxSuggestions && distance <= ranked.front().first + 1) out.push_back(candidate);
  return out;
}

std::vector<std::string_view> similar_features(std::string_view name) {
  std::array<std::string_view, std::size(kFeatures)> names;
  std::ranges::transform(kFeatures, names.begin(), &FeatureBit::name);
  return similar_names(name, names);
}

FeatureSet without_prerequisite(const FeatureSet &set) {
  FeatureSet orphans;
  // A prerequisite may stand after what needs it, so repeat until nothing more falls.
  for (bool grew = true; grew;) {
    grew = false;
    for (const auto &[feature, needs] : kPrerequisites) {
      const bool lacking = !contains(set, needs) || contains(orphans, needs);
      if (!contains(set, feature) || contains(orphans, feature) || !lacking) continue;
      put(orphans, feature);
      grew = true;
    }
  }
  return orphans;
}

std::vector<Feature> missing_prerequisites(Feature feature, const FeatureSet &set) {
  std::vector<Feature> missing;
  for (const auto &row : kPrerequisites)
    if (row.feature == feature && !contains(set, row.needs)) missing.push_back(row.needs);
  return missing;
}

FeatureSet make_set(std::initializer_list<Feature> features) {
  FeatureSet set;
  for (const auto f : features) put(set, f);
  return set;
}

VmxFeatureSet make_set(std::initializer_list<VmxFeature> features) {
  VmxFeatureSet set;
  for (const auto f : features) set[static_cast<size_t>(f)] = true;
  return set;
}

std::string join_names(const FeatureSet &set) {
  std::string out;
  for (const auto &row : kFeatures) {
    if (!contains(set, row.feature)) continue;
    if (!out.empty()) out += ", ";
    out += row.name;
  }
  return out;
}

} // namespace abyme::x86
