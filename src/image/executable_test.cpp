#include "image/executable.hpp"
#include "image/file.hpp"
#include <cstring>
#include <elf.h>
#include <fstream>
#include <gtest/gtest.h>

namespace abyme::image {
namespace {

TEST(Executable, WithoutDebugItIsSmallerAndHasNoSections) {
  const auto file = read_file("/proc/self/exe");
  ASSERT_TRUE(file);
  const auto small = without_debug(*file);
  EXPECT_LT(small.size(), file->size());
  Elf64_Ehdr header;
  std::memcpy(&header, small.data(), sizeof header);
  EXPECT_EQ(header.e_shnum, 0);
  EXPECT_EQ(header.e_shoff, 0u);
}

TEST(Executable, WhatIsNoElfFileStaysAsItIs) {
  for (const std::string_view text : {"", "#!/bin/sh\necho a script\n", "\177ELF and then nothing"}) {
    const std::vector<u8> file(text.begin(), text.end());
    EXPECT_EQ(without_debug(file), file);
  }
}

TEST(Executable, HeadersThatPointBeyondTheFileAreNotFollowed) {
  auto file = *read_file("/proc/self/exe");
  Elf64_Ehdr header;
  std::memcpy(&header, file.data(), sizeof header);
  Elf64_Phdr segment;
  std::memcpy(&segment, file.data() + header.e_phoff, sizeof segment);
  segment.p_offset = ~u64{0};
  std::memcpy(file.data() + header.e_phoff, &segment, sizeof segment);
  EXPECT_EQ(without_debug(file), file);
  header.e_phoff = file.size() - 8;
  std::memcpy(file.data(), &header, sizeof header);
  EXPECT_EQ(without_debug(file), file);
}

TEST(Executable, AMissingFileIsNamed) {
  const auto libraries = libraries_of("/no/such/program");
  ASSERT_FALSE(libraries);
  EXPECT_NE(libraries.error().message.find("/no/such/program"), std::string::npos);
}

} // namespace
} // namespace abyme::image
