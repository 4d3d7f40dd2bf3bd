#include "image/cache.hpp"
#include "image/file.hpp"
#include "image/kernel.hpp"
#include "image/package.hpp"
#include "image/program.hpp"
#include <fstream>
#include <gtest/gtest.h>

namespace abyme::image {
namespace {
namespace fs = std::filesystem;

class CacheTest : public ::testing::Test {
protected:
  CacheTest() {
    std::string pattern = fs::temp_directory_path() / "abyme-cache-XXXXXX";
    home_ = ::mkdtemp(pattern.data());
    ::setenv("XDG_CACHE_HOME", home_.c_str(), 1);
  }
  ~CacheTest() override { fs::remove_all(home_); }
  size_t entries() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(home_ / "abyme"), fs::directory_iterator()));
  }
  fs::path home_;
};

std::vector<u8> bytes(std::string_view text) { return {text.begin(), text.end()}; }

TEST_F(CacheTest, AFolderIsFilledOnce) {
  const auto cache = Cache::open();
  ASSERT_TRUE(cache);
  int fills = 0;
  const auto fill = [&](const fs::path &folder) -> Result<void> {
    fills++;
    std::ofstream(folder / "x") << "content";
    return {};
  };
  ASSERT_TRUE(cache->folder("p", fill));
  const auto again = cache->folder("p", fill);
  ASSERT_TRUE(again);
  EXPECT_EQ(fills, 1);
  EXPECT_EQ(*read_file(*again / "x"), bytes("content"));
}

TEST_F(CacheTest, AFolderThatCouldNotBeFilledLeavesNothing) {
  const auto cache = Cache::open();
  const auto made = cache->folder("p", [](const fs::path &folder) -> Result<void> {
    std::ofstream(folder / "half");
    return fail("the network is down");
  });
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().message, "the network is down");
  EXPECT_EQ(entries(), 0u);
}

TEST_F(CacheTest, AFileIsKnownByItsContent) {
  const auto cache = Cache::open();
  const auto a = cache->file("image", bytes("one")), b = cache->file("image", bytes("two"));
  ASSERT_TRUE(a && b);
  EXPECT_NE(*a, *b);
  EXPECT_EQ(*cache->file("image", bytes("one")), *a);
  EXPECT_EQ(*read_file(*a), bytes("one"));
}

TEST_F(CacheTest, OldFilesGo) {
  const auto cache = Cache::open();
  for (int i = 0; i < 50; i++) ASSERT_TRUE(cache->file("image", bytes(std::to_string(i))));
  EXPECT_LE(entries(), 8u);
}

TEST_F(CacheTest, AFileAsCacheIsAnErrorThatSaysWhatToDo) {
  std::ofstream(home_ / "file");
  ::setenv("XDG_CACHE_HOME", (home_ / "file").c_str(), 1);
  const auto cache = Cache::open();
  ASSERT_FALSE(cache);
  EXPECT_NE(cache.error().message.find("XDG_CACHE_HOME"), std::string::npos);
}

TEST_F(CacheTest, NamesThatAreNoPackagesReachNoProgram) {
  const auto cache = Cache::open();
  for (const char *name : {"", "-o", "../x", "a b", "$(x)", ".hidden"}) {
    EXPECT_FALSE(package_folder(*cache, name)) << name;
    EXPECT_FALSE(resolve_kernel_package(name)) << name;
  }
}

TEST_F(CacheTest, FilesThatAreNoKernelsAreRefused) {
  const auto cache = Cache::open();
  for (const std::string &content : {std::string(), std::string("HdrS"), std::string(4096, 'x')}) {
    const auto file = home_ / "kernel";
    std::ofstream(file) << content;
    const auto kernel = find_kernel(*cache, file);
    ASSERT_FALSE(kernel);
    EXPECT_NE(kernel.error().message.find("bzImage"), std::string::npos);
  }
}

TEST_F(CacheTest, AVersionWithASlashIsRefused) {
  std::string content(4096, '\0');
  content.replace(0x202, 4, "HdrS");
  content[0x20E] = 0x40; // the version stands at 0x240
  content.replace(0x240, 10, "../../etc ");
  std::ofstream(home_ / "kernel") << content;
  EXPECT_FALSE(kernel_version(home_ / "kernel"));
  content.replace(0x240, 10, "6.1.0-test ");
  std::ofstream(home_ / "kernel") << content;
  EXPECT_EQ(kernel_version(home_ / "kernel").value_or("none"), "6.1.0-test");
}

TEST(Program, OutputStatusAndErrors) {
  EXPECT_EQ(run_program({"echo", "a b"}).value_or("none"), "a b\n");
  EXPECT_EQ(run_program({"sh", "-c", "head -c 300000 /dev/zero >&2; head -c 300000 /dev/zero"})->size(), 300000u);
  const auto failed = run_program({"sh", "-c", "echo first >&2; echo the reason >&2; exit 3"});
  ASSERT_FALSE(failed);
  EXPECT_NE(failed.error().message.find("the reason"), std::string::npos);
  EXPECT_FALSE(run_program({"no-such-program-anywhere"}));
}

} // namespace
} // namespace abyme::image
