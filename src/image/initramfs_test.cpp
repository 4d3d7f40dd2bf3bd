#include "image/initramfs.hpp"
#include <gtest/gtest.h>

namespace abyme::image {
namespace {

std::string text_of(const std::vector<u8> &bytes) { return {bytes.begin(), bytes.end()}; }

// A reader of the format by its description, to judge the writer: names in order, with mode and content.
struct Member {
  std::string name;
  u64 mode = 0;
  std::string content;
};

u64 hex(const std::string &text) { return std::stoull(text, nullptr, 16); }

std::vector<Member> members(const std::string &archive) {
  std::vector<Member> out;
  for (size_t at = 0; at + 110 <= archive.size();) {
    EXPECT_EQ(archive.substr(at, 6), "070701");
    const u64 mode = hex(archive.substr(at + 14, 8)), size = hex(archive.substr(at + 54, 8));
    const u64 name_size = hex(archive.substr(at + 94, 8));
    const size_t content = (at + 110 + name_size + 3) & ~size_t{3};
    out.push_back({archive.substr(at + 110, name_size - 1), mode, archive.substr(content, size)});
    at = (content + size + 3) & ~size_t{3};
  }
  return out;
}

TEST(Initramfs, HasWhatWasAddedAndTheFoldersOnTheWay) {
  Initramfs image;
  image.add_file("/usr/share/x", std::string_view("hello"), 0755);
  image.add_link("/usr/y", "share/x");
  const auto found = members(text_of(image.finish()));
  ASSERT_EQ(found.size(), 5u);
  EXPECT_EQ(found[0].name, "usr");
  EXPECT_EQ(found[1].name, "usr/share");
  EXPECT_EQ(found[1].mode, 0040755u);
  EXPECT_EQ(found[2].name, "usr/share/x");
  EXPECT_EQ(found[2].mode, 0100755u);
  EXPECT_EQ(found[2].content, "hello");
  EXPECT_EQ(found[3].mode, 0120777u);
  EXPECT_EQ(found[3].content, "share/x");
  EXPECT_EQ(found[4].name, "TRAILER!!!");
}

TEST(Initramfs, EqualContentMakesAnEqualImage) {
  const auto make = [] {
    Initramfs image;
    image.add_character_device("/dev/console", 5, 1);
    image.add_file("/init", std::string_view("#!/bin/sh\n"), 0755);
    return image.finish();
  };
  EXPECT_EQ(make(), make());
}

TEST(Initramfs, APathIsThereOnce) {
  Initramfs image;
  image.add_file("/a", std::string_view("first"));
  image.add_file("/a", std::string_view("second"));
  const auto found = members(text_of(image.finish()));
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].content, "first");
}

TEST(Initramfs, AProgramComesWithItsLibraries) {
  Initramfs image;
  ASSERT_TRUE(image.add_program("/proc/self/exe", "/bin/this"));
  bool has_libc = false;
  for (const auto &member : members(text_of(image.finish())))
    has_libc |= member.name.ends_with("libc.so.6") && member.content.starts_with("\x7f"
                                                                                 "ELF");
  EXPECT_TRUE(has_libc);
}

} // namespace
} // namespace abyme::image
