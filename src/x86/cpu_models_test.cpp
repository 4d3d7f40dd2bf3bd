#include "x86/cpu_models.hpp"
#include "x86/msr.hpp"
#include <cmath>
#include <gmock/gmock.h>

namespace abyme::x86 {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

HostFeatures everything() {
  HostFeatures all{.source = "the test", .features = {}, .vmx_features = ~VmxFeatureSet{}, .xsave_components = {}};
  all.features = ~FeatureSet{};
  all.xsave_components = {{0xD, 2, true, 256, 576, 0, 0}, {0xD, 9, true, 8, 2688, 0, 0}};
  return all;
}

HostFeatures without(std::initializer_list<Feature> missing) {
  auto host = everything();
  host.features &= ~make_set(missing);
  return host;
}

CpuProfile profile(std::string_view spec, const HostFeatures &host = everything(), unsigned cpus = 1) {
  auto p = make_profile(spec, host, cpus);
  if (!p) ADD_FAILURE() << p.error().message;
  return p.value_or(CpuProfile{});
}

std::string refusal(std::string_view spec, const HostFeatures &host = everything()) {
  const auto p = make_profile(spec, host, 1);
  return p ? "accepted" : p.error().message;
}

std::string vendor(const CpuProfile &p) {
  const auto l = p.lookup(0, 0);
  std::string text(12, ' ');
  std::memcpy(text.data(), &l.ebx, 4);
  std::memcpy(text.data() + 4, &l.edx, 4);
  std::memcpy(text.data() + 8, &l.ecx, 4);
  return text;
}

u32 bit_of(const CpuProfile &p, Feature f) {
  const auto &row = describe(f);
  const auto l = p.lookup(row.leaf, row.subleaf);
  const u32 registers[] = {l.eax, l.ebx, l.ecx, l.edx};
  return registers[static_cast<size_t>(row.reg)] >> row.bit & 1;
}

TEST(CpuModels, CpuidSaysWhatTheFeatureSetHas) {
  for (const auto &model : cpu_models()) {
    const auto p = profile(model.name, everything(), 2);
    for (const auto &row : feature_table())
      EXPECT_EQ(bit_of(p, row.feature), p.has(row.feature)) << model.name << " " << row.name;
    EXPECT_EQ(vendor(p), "GenuineIntel");
    EXPECT_EQ(p.lookup(1, 0).eax, p.signature);
  }
}

TEST(CpuModels, SignaturesAreThoseOfTheSilicon) {
  EXPECT_EQ(profile("nehalem").signature, 0x106A3u);
  EXPECT_EQ(profile("haswell").signature, 0x306C3u);
}

TEST(CpuModels, HaswellAddsToNehalem) {
  const auto nehalem = profile("nehalem"), haswell = profile("haswell");
  EXPECT_EQ(nehalem.features & ~haswell.features, FeatureSet{});
  EXPECT_TRUE(nehalem.has(Feature::vmx) && nehalem.has(VmxFeature::ept) && nehalem.has(VmxFeature::unrestricted_guest));
  EXPECT_FALSE(nehalem.has(Feature::avx) || nehalem.has(VmxFeature::vmcs_shadowing));
  EXPECT_TRUE(haswell.has(Feature::avx2) && haswell.has(VmxFeature::vmcs_shadowing));
}

TEST(CpuModels, EmptySpecIsMaxAndMaxTakesWhatThereIs) {
  EXPECT_EQ(profile("").model, "max");
  const auto host = without({Feature::avx2, Feature::vmx});
  const auto p = profile("max", host);
  EXPECT_FALSE(p.has(Feature::avx2) || p.has(Feature::vmx));
  EXPECT_TRUE(p.has(Feature::sse2));
}

TEST(CpuModels, MinusVmxLeavesNoVmx) {
  const auto p = profile("max,-vmx");
  EXPECT_FALSE(p.has(Feature::vmx));
  EXPECT_TRUE(p.vmx_features.none());
  EXPECT_EQ(p.lookup(1, 0).ecx >> 5 & 1, 0u);
}

TEST(CpuModels, TakingAvxAwayTakesItsStateAndWhatBuildsOnIt) {
  const auto p = profile("haswell,-avx");
  EXPECT_FALSE(p.has(Feature::avx2) || p.has(Feature::fma));
  EXPECT_EQ(p.xcr0_mask, 3u);
  EXPECT_EQ(p.lookup(0xD, 0).ecx, 576u);
  EXPECT_EQ(p.lookup(0xD, 2).eax, 0u);
}

TEST(CpuModels, LaterChangesWin) {
  EXPECT_TRUE(profile("max,-aes,+aes").has(Feature::aes));
  EXPECT_FALSE(profile("max,+aes,-aes").has(Feature::aes));
}

TEST(CpuModels, WhatCannotBeHadIsRefusedByName) {
  const auto host = without({Feature::avx2, Feature::bmi2, Feature::pku});
  EXPECT_THAT(refusal("haswell", host),
              AllOf(HasSubstr("'haswell' has avx2, bmi2"), HasSubstr("the test"), HasSubstr("haswell,-avx2,-bmi2")));
  EXPECT_THAT(refusal("max,+pku", host), HasSubstr("pku"));
  EXPECT_THAT(refusal("haswell,-avx2,-bmi2", host), HasSubstr("accepted"));
  EXPECT_THAT(refusal("nehalem,+avx"), AllOf(HasSubstr("'avx'"), HasSubstr("+xsave")));
}

TEST(CpuModels, BadSpecsAreExplained) {
  EXPECT_THAT(refusal("pentium"), AllOf(HasSubstr("'pentium'"), HasSubstr("'nehalem', 'haswell' and 'max'")));
  EXPECT_THAT(refusal("max,+avx3"), HasSubstr("did you mean"));
  EXPECT_THAT(refusal("max,-sse4.2"), HasSubstr("'sse4_2'"));
  EXPECT_THAT(refusal("max,"), HasSubstr("must begin with"));
  EXPECT_THAT(refusal("max,vmx"), HasSubstr("must begin with"));
  EXPECT_THAT(refusal("max,+"), HasSubstr("not known"));
  EXPECT_THAT(refusal(std::string("max,-\0vmx", 9)), HasSubstr("not known"));
}

TEST(CpuModels, TopologyCountsTheCpus) {
  const auto p = profile("max", everything(), 3);
  EXPECT_EQ(p.lookup(1, 0).ebx >> 16 & 0xFF, 4u);
  EXPECT_EQ(p.lookup(0xB, 0).ebx, 1u);
  EXPECT_EQ(p.lookup(0xB, 1).eax, 2u);
  EXPECT_EQ(p.lookup(0xB, 1).ebx, 3u);
  EXPECT_EQ(p.lookup(0xB, 2).ecx, 2u);
  EXPECT_EQ(p.lookup(0xB, 2).ebx, 0u);
  EXPECT_FALSE(profile("max").has(Feature::ht));
  EXPECT_EQ(p.lookup(4, 3).eax >> 14 & 0xFFF, 3u); // the last cache is shared
  EXPECT_EQ(p.lookup(4, 4).eax, 0u);
}

TEST(CpuModels, LeavesBeyondTheMaximumReadAsTheLastBasicOne) {
  const auto p = profile("max");
  EXPECT_EQ(p.lookup(0x4000'0000, 0).eax, p.lookup(0x16, 0).eax);
  EXPECT_EQ(p.lookup(0x8000'0009, 0).eax, p.lookup(0x16, 0).eax);
  EXPECT_EQ(p.lookup(0x9, 0).eax, 0u);
}

// What Linux computes from leaf 15h, in its 32 bits.
double linux_tsc_khz(const CpuProfile &p) {
  const auto l = p.lookup(0x15, 0);
  const u32 product = l.ecx / 1000 * l.ebx;
  EXPECT_EQ(product, static_cast<u64>(l.ecx / 1000) * l.ebx) << "overflows";
  return static_cast<double>(product) / l.eax;
}

TEST(CpuModels, TheTscFrequencyComesBackWithinAPartInAMillion) {
  for (const u64 hz : {1'000'000'000ull, 2'596'121'000ull, 3'999'999'999ull, 800'000'001ull, 1ull}) {
    auto host = everything();
    host.tsc_hz = hz;
    const double wanted = static_cast<double>(hz) / 1000;
    EXPECT_NEAR(linux_tsc_khz(profile("nehalem", host)), wanted, std::max(1.0, wanted * 1e-6)) << hz;
  }
  EXPECT_EQ(profile("max").lookup(0x15, 0).eax, profile("max").lookup(0x15, 0).ebx);
  EXPECT_EQ(profile("max").lookup(0x16, 0).eax, 1000u);
}

TEST(HostFeatures, TheSoftwareCpuOffersWhatTheHostExecutes) {
  const auto nothing = [](u32 leaf, u32 subleaf) {
    return CpuidLeaf{leaf, subleaf, true, leaf == 0 ? 7u : 0u, 0, 0, 0};
  };
  const auto bare = software_cpu_features(nothing, 0);
  EXPECT_TRUE(contains(bare.features, Feature::vmx) && contains(bare.features, Feature::sse2));
  EXPECT_FALSE(contains(bare.features, Feature::avx) || contains(bare.features, Feature::sse3));

  const auto all = [](u32 leaf, u32 subleaf) { return CpuidLeaf{leaf, subleaf, true, 0xFFFF'FFFF, ~0u, ~0u, ~0u}; };
  const auto full = software_cpu_features(all, 7);
  for (const auto f : {Feature::hypervisor, Feature::pku, Feature::la57, Feature::pks, Feature::monitor})
    EXPECT_FALSE(contains(full.features, f)) << describe(f).name;
  EXPECT_TRUE(contains(full.features, Feature::avx2) && contains(full.features, Feature::xsaves));
  EXPECT_FALSE(contains(software_cpu_features(all, 3).features, Feature::vaes))
      << "the host's kernel has not enabled YMM";
  EXPECT_EQ(profile("max", full).xcr0_mask, 7u);
  EXPECT_EQ(profile("max", full).lookup(0xD, 0).ecx, 832u);
}

TEST(Msr, NoFlawIsLeftForGuestsToWorkAround) {
  EXPECT_EQ(msr::kArchCapabilities & 0x3F, 0x3Bu); // RDCL_NO IBRS_ALL SKIP_L1DFL SSB_NO MDS_NO, not RSBA
}

} // namespace
} // namespace abyme::x86
