#include "x86/cpuid_leaves.hpp"
#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

namespace abyme::x86 {
namespace {

constexpr u32 kLastBasic = 0x16;
constexpr u32 kLastExtended = 0x8000'0008;
constexpr u32 kCacheLine = 64;

// The core crystal clock, which also feeds the local APIC's timer (SDM 3A §11.5.4): that of both engines counts
// nanoseconds.
constexpr u64 kCrystalHz = 1'000'000'000;

using Registers = std::array<u32, 4>;

u32 feature_bits(const CpuProfile &profile, u32 leaf, u32 subleaf, CpuidRegister reg) {
  u32 bits = 0;
  for (const auto &row : feature_table())
    if (profile.has(row.feature)) bits |= row.mask_in(leaf, subleaf, reg);
  return bits;
}

class LeafBuilder {
public:
  LeafBuilder(CpuProfile &profile, const CpuModel &model, const HostFeatures &available, unsigned cpus)
      : profile_(profile), model_(model), available_(available), cpus_(cpus) {}

  void build() {
    identity();
    add(2, 0, false, {0x00FF'FF01, 0, 0, 0}); // FFh: leaf 4 tells the caches
    caches();
    add(6, 0, false, {});
    add(7, 0, true, {});
    topology();
    xsave();
    frequencies();
    extended();
    add_features();
    std::ranges::sort(profile_.leaves, {}, [](const CpuidLeaf &l) { return std::pair(l.leaf, l.subleaf); });
  }

private:
  void add(u32 leaf, u32 subleaf, bool subleaf_matters, Registers r) {
    profile_.leaves.push_back({leaf, subleaf, subleaf_matters, r[0], r[1], r[2], r[3]});
  }

  void identity() {
    add(0, 0, false, {profile_.max_basic_leaf, 0x756E'6547, 0x6C65'746E, 0x4965'6E69}); // "GenuineIntel"
    // EBX: the size of CLFLUSH in quadwords, and the APIC IDs that the package's cores span.
    add(1, 0, false, {profile_.signature, kCacheLine / 8 << 8 | std::bit_ceil(cpus_) << 16, 0, 0});
  }

  void caches() {
    u32 subleaf = 0;
    for (const auto &cache : model_.caches) {
      const u32 sharers = cache.shared ? std::bit_ceil(cpus_) : 1;
      const u32 eax = cache.type | static_cast<u32>(cache.level) << 5 | 1u << 8 | (sharers - 1) << 14 |
                      (std::bit_ceil(std::min(cpus_, 64u)) - 1) << 26;
      add(4, subleaf++, true, {eax, (cache.ways - 1) << 22 | (kCacheLine - 1), cache.sets - 1, 0});
    }
    add(4, subleaf, true, {});
  }

  // One thread a core, all cores in one package.
  void topology() {
    const u32 shift = static_cast<u32>(std::bit_width(std::bit_ceil(cpus_)) - 1);
    add(0xB, 0, true, {0, 1, 1u << 8 | 0, 0});
    add(0xB, 1, true, {shift, cpus_, 2u << 8 | 1, 0});
  }

  void xsave() {
    if (!profile_.has(Feature::xsave)) {
      profile_.xcr0_mask = 1;
      add(0xD, 0, true, {});
      return;
    }
    constexpr u32 kLegacyAndHeader = 576;
    u32 size = kLegacyAndHeader;
    profile_.xcr0_mask = 3;
    for (const auto &component : available_.xsave_components) {
      if (!wanted(component.subleaf)) continue;
      profile_.xcr0_mask |= 1ull << component.subleaf;
      size = std::max(size, component.ebx + component.eax);
      add(0xD, component.subleaf, true, {component.eax, component.ebx, component.ecx, component.edx});
    }
    add(0xD, 0, true,
        {static_cast<u32>(profile_.xcr0_mask), kLegacyAndHeader, size, static_cast<u32>(profile_.xcr0_mask >> 32)});
    add(0xD, 1, true, {});
  }

  [[nodiscard]] bool wanted(u32 component) const {
    return (component == 2 && profile_.has(Feature::avx)) || (component == 9 && profile_.has(Feature::pku));
  }

  void frequencies() {
    const auto [numerator, denominator] = ratio_below(profile_.tsc_hz, kCrystalHz, kLargestNumerator);
    add(0x15, 0, false, {denominator, numerator, static_cast<u32>(kCrystalHz), 0});
    const u32 mhz = static_cast<u32>(profile_.tsc_hz / 1'000'000);
    add(0x16, 0, false, {mhz, mhz, 100, 0});
  }

  // Linux multiplies the crystal's kHz by the numerator in 32 bits.
  static constexpr u64 kLargestNumerator = 0xFFFF'FFFF / (kCrystalHz / 1000);

  // The best approximation of a / b whose numerator is within the limit, by continued fractions.
  static std::pair<u32, u32> ratio_below(u64 a, u64 b, u64 limit) {
    u64 n0 = 0, n1 = 1, d0 = 1, d1 = 0;
    while (b != 0) {
      const u64 q = a / b;
      const u64 n2 = q * n1 + n0, d2 = q * d1 + d0;
      if (n2 > limit) break;
      n0 = std::exchange(n1, n2), d0 = std::exchange(d1, d2);
      a = std::exchange(b, a % b);
    }
    return {static_cast<u32>(n1), static_cast<u32>(std::max<u64>(d1, 1))};
  }

  void extended() {
    add(0x8000'0000, 0, false, {profile_.max_extended_leaf, 0, 0, 0});
    add(0x8000'0001, 0, false, {});
    brand();
    const auto l2 = std::ranges::find(model_.caches, 2, &CpuModel::Cache::level);
    constexpr u32 kEightWays = 6u << 12;
    const u32 l2_kib = l2 == model_.caches.end() ? 0 : l2->ways * l2->sets * kCacheLine / 1024;
    add(0x8000'0006, 0, false, {0, 0, l2_kib << 16 | kEightWays | kCacheLine, 0});
    add(0x8000'0007, 0, false, {});
    const u32 linear_bits = profile_.has(Feature::la57) ? 57 : 48;
    add(0x8000'0008, 0, false, {profile_.physical_bits | linear_bits << 8, 0, 0, 0});
  }

  void brand() {
    std::array<char, 48> text{};
    const auto name = fmt::format("abyme virtual CPU, model {}", model_.name);
    name.copy(text.data(), text.size() - 1);
    for (u32 i = 0; i < 3; ++i) {
      Registers r{};
      std::memcpy(r.data(), text.data() + i * sizeof r, sizeof r);
      add(0x8000'0002 + i, 0, false, r);
    }
  }

  void add_features() {
    for (auto &leaf : profile_.leaves) {
      leaf.eax |= feature_bits(profile_, leaf.leaf, leaf.subleaf, CpuidRegister::eax);
      leaf.ebx |= feature_bits(profile_, leaf.leaf, leaf.subleaf, CpuidRegister::ebx);
      leaf.ecx |= feature_bits(profile_, leaf.leaf, leaf.subleaf, CpuidRegister::ecx);
      leaf.edx |= feature_bits(profile_, leaf.leaf, leaf.subleaf, CpuidRegister::edx);
    }
  }

  CpuProfile &profile_;
  const CpuModel &model_;
  const HostFeatures &available_;
  u32 cpus_;
};

u32 signature_of(const CpuModel &m) {
  const u32 base_family = std::min<u32>(m.family, 15);
  return m.stepping | (m.model & 15u) << 4 | base_family << 8 | (m.model >> 4 & 15u) << 16 |
         (m.family - base_family) << 20;
}

} // namespace

void build_leaves(CpuProfile &profile, const CpuModel &model, const HostFeatures &available, unsigned cpus) {
  profile.max_basic_leaf = kLastBasic;
  profile.max_extended_leaf = kLastExtended;
  profile.signature = signature_of(model);
  LeafBuilder(profile, model, available, cpus).build();
}

CpuidLeaf CpuProfile::lookup(u32 leaf, u32 subleaf) const {
  const bool is_extended = leaf >= 0x8000'0000 && leaf <= max_extended_leaf;
  if (leaf > max_basic_leaf && !is_extended) leaf = max_basic_leaf;
  CpuidLeaf absent{.leaf = leaf, .subleaf = subleaf, .subleaf_matters = true, .eax = 0, .ebx = 0, .ecx = 0, .edx = 0};
  auto at = std::ranges::lower_bound(leaves, leaf, {}, &CpuidLeaf::leaf);
  for (; at != leaves.end() && at->leaf == leaf; ++at)
    if (!at->subleaf_matters || at->subleaf == subleaf) return *at;
  if (leaf == 0xB) absent.ecx = subleaf & 0xFF; // a level of type 0 gives back its number
  return absent;
}

} // namespace abyme::x86
