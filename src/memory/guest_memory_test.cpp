#include "memory/guest_memory.hpp"
#include <gtest/gtest.h>

namespace abyme {
namespace {

TEST(GuestMemory, StaysBelowTheHoleAndGoesOnAbove4GiB) {
  auto memory = GuestMemory::create(kHoleStart + 64_KiB);
  ASSERT_TRUE(memory);
  auto &m = **memory;
  EXPECT_NE(m.host(Gpa(kHoleStart - 8), 8), nullptr);
  EXPECT_EQ(m.host(Gpa(kHoleStart - 8), 9), nullptr);
  EXPECT_EQ(m.host(Gpa(kHoleStart), 1), nullptr);
  EXPECT_EQ(m.host(Gpa(kHoleEnd - 1), 1), nullptr);
  EXPECT_NE(m.host(Gpa(kHoleEnd), 64_KiB), nullptr);
  EXPECT_EQ(m.host(Gpa(kHoleEnd), 64_KiB + 1), nullptr);
  EXPECT_EQ(m.host(Gpa(~0ull), 16), nullptr);
  EXPECT_EQ(m.gpa(m.host(Gpa(kHoleEnd + 4096), 1)), Gpa(kHoleEnd + 4096));
  EXPECT_EQ(m.gpa(m.host(Gpa(4096), 1)), Gpa(4096));
}

TEST(GuestMemory, WritesOutsideRamDoNothing) {
  auto memory = GuestMemory::create(64_KiB);
  ASSERT_TRUE(memory);
  u64 value = 1;
  EXPECT_FALSE((*memory)->store(Gpa(64_KiB - 4), value));
  u32 last = 7;
  EXPECT_TRUE((*memory)->load(Gpa(64_KiB - 4), last));
  EXPECT_EQ(last, 0u);
}

TEST(GuestMemory, TellsOfWritesToCode) {
  struct Recorder : CodeListener {
    void code_written(Gpa page) override { pages.push_back(page); }
    std::vector<Gpa> pages;
  } recorder;
  auto memory = GuestMemory::create(64_KiB);
  ASSERT_TRUE(memory);
  auto &m = **memory;
  m.set_code_listener(&recorder);
  m.add_code(Gpa(0x3000), 1);
  const u64 value = 0;
  EXPECT_TRUE(m.store(Gpa(0x1000), value));
  EXPECT_TRUE(m.store(Gpa(0x2ffc), value)); // crosses into the code page
  EXPECT_EQ(recorder.pages, std::vector<Gpa>{Gpa(0x3000)});
  EXPECT_FALSE(m.is_code(Gpa(0x3000)));
}

TEST(GuestMemory, WritesBesideCodeOnItsPageAreNotReported) {
  struct Counter : CodeListener {
    void code_written(Gpa) override { count++; }
    int count = 0;
  } counter;
  auto memory = GuestMemory::create(64_KiB);
  ASSERT_TRUE(memory);
  auto &m = **memory;
  m.set_code_listener(&counter);
  m.add_code(Gpa(0x3000), 1ull << 5);
  EXPECT_TRUE(m.store(Gpa(0x3000 + 5 * 64 - 8), u64{1}));
  EXPECT_TRUE(m.store(Gpa(0x3000 + 6 * 64), u64{1}));
  EXPECT_EQ(counter.count, 0);
  EXPECT_TRUE(m.store(Gpa(0x3000 + 6 * 64 - 1), u8{1}));
  EXPECT_EQ(counter.count, 1);
}

TEST(GuestMemory, RefusesSizesThatAreNotPages) {
  EXPECT_FALSE(GuestMemory::create(0));
  EXPECT_FALSE(GuestMemory::create(100));
}

} // namespace
} // namespace abyme
