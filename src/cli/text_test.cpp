#include "cli/text.hpp"
#include <gtest/gtest.h>

namespace abyme::cli {
namespace {

TEST(Wrap, BreaksAtWordsWithinTheColumns) {
  const std::string word(39, 'a');
  EXPECT_EQ(wrap(word + " " + word + " b", 0, 2), word + " " + word + "\n  b");
  EXPECT_EQ(wrap("one two", 0, 2), "one two");
  EXPECT_EQ(wrap("", 5, 2), "");
}

TEST(Wrap, CountsTheCallersPrefix) { EXPECT_EQ(wrap("four five", 75, 3), "four\n   five"); }

TEST(Wrap, AWordThatFitsNoLineStandsAlone) {
  const std::string wide(100, 'w');
  EXPECT_EQ(wrap("a " + wide + " b", 0, 1), "a\n " + wide + "\n b");
}

} // namespace
} // namespace abyme::cli
