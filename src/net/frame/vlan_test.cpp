#include "net/frame/mac.hpp"
#include "net/frame/vlan.hpp"
#include <gtest/gtest.h>

namespace abyme::net {
namespace {

TEST(Vlans, ReadsRangesAndWritesThemBack) {
  for (const char *text : {"10", "1-5,20", "0-4094", "0,4094"}) {
    const auto set = parse_vlans(text);
    ASSERT_TRUE(set) << text;
    EXPECT_EQ(to_string(*set), text);
  }
  EXPECT_EQ(to_string(*parse_vlans("all")), "0-4094");
  EXPECT_EQ(to_string(*parse_vlans("3, 4 ,5")), "3-5");
}

TEST(Vlans, RefusesWhatIsNone) {
  for (const char *text : {"", "4096", "5-3", "1,", "x", "-1", "4095-4096"}) EXPECT_FALSE(parse_vlans(text)) << text;
}

TEST(Mac, ReadsAndWrites) {
  EXPECT_EQ(to_string(*parse_mac("52:54:00:aB:cd:0f")), "52:54:00:ab:cd:0f");
  for (const char *text : {"", "52:54:00:ab:cd", "52:54:00:ab:cd:0g", "52:54:00:ab:cd:0f:", "5254:00:ab:cd:0f0"})
    EXPECT_FALSE(parse_mac(text)) << text;
  EXPECT_TRUE(kBroadcast.is_group());
  EXPECT_FALSE(parse_mac("52:54:00:ab:cd:0f")->is_group());
}

} // namespace
} // namespace abyme::net
