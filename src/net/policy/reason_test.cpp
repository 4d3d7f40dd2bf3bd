#include "net/policy/reason.hpp"
#include <cstdlib>
#include <fmt/format.h>
#include <fstream>
#include <gtest/gtest.h>
#include <sstream>

namespace abyme::net {
namespace {

std::string table() {
  std::string out = "| reason | where | strikes when | passes with |\n| --- | --- | --- | --- |\n";
  for (const ReasonRow &r : reason_table())
    if (r.reason != DropReason::None)
      out += fmt::format("| `{}` | {} | {} | {} |\n", r.name, r.entering ? "entering" : "leaving", r.rule,
                         r.setting.empty() ? "nothing" : fmt::format("`{}`", r.setting));
  return out;
}

// With ABYME_UPDATE_DOCS set, writes the page instead of comparing it.
TEST(Reasons, TheDocumentedTableIsThisOne) {
  const std::string path = ABYME_SOURCE_DIR "/docs/switch.md", begin = "<!-- rules -->\n", end = "<!-- /rules -->";
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  std::string page = text.str();
  const auto from = page.find(begin), to = page.find(end);
  ASSERT_NE(from, std::string::npos);
  ASSERT_NE(to, std::string::npos);
  const std::string found = page.substr(from + begin.size(), to - from - begin.size());
  if (std::getenv("ABYME_UPDATE_DOCS")) {
    page.replace(from + begin.size(), found.size(), table());
    std::ofstream(path) << page;
    return;
  }
  EXPECT_EQ(found, table()) << "run net_tests with ABYME_UPDATE_DOCS=1";
}

TEST(Reasons, EveryRuleSaysWhenItStrikes) {
  for (const ReasonRow &r : reason_table()) {
    EXPECT_FALSE(r.name.empty());
    EXPECT_TRUE(r.reason == DropReason::None || !r.rule.empty()) << r.name;
  }
}

} // namespace
} // namespace abyme::net
