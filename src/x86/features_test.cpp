#include "x86/features.hpp"
#include <gmock/gmock.h>
#include <set>

namespace abyme::x86 {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;

TEST(Features, NoTwoShareABitOrAName) {
  std::set<std::tuple<u32, u32, CpuidRegister, u8>> places;
  std::set<std::string_view> names;
  for (const auto &row : feature_table()) {
    EXPECT_TRUE(places.emplace(row.leaf, row.subleaf, row.reg, row.bit).second) << row.name;
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    EXPECT_EQ(find_feature(row.name), row.feature);
  }
}

TEST(Features, MisspeltNamesFindTheirNeighbours) {
  EXPECT_THAT(similar_features("avx3"), Contains("avx2"));
  EXPECT_THAT(similar_features("sse4.2"), Contains("sse4_2"));
  EXPECT_EQ(similar_features("vxm").front(), "vmx");
  EXPECT_THAT(similar_features("entirely-something-else"), IsEmpty());
  EXPECT_THAT(similar_features(std::string(1 << 20, 'a')), IsEmpty());
}

TEST(Features, WhatNeedsAnAbsentFeatureFallsWithIt) {
  const auto set =
      make_set({Feature::fxsr, Feature::mmx, Feature::sse, Feature::sse2, Feature::avx, Feature::avx2, Feature::vaes});
  EXPECT_EQ(join_names(without_prerequisite(set)), "avx, avx2, vaes");
  EXPECT_THAT(missing_prerequisites(Feature::avx, set), ElementsAre(Feature::xsave, Feature::sse4_2));
}

} // namespace
} // namespace abyme::x86
