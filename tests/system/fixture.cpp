#include "system/fixture.hpp"
#include "image/cache.hpp"
#include <fcntl.h>
#include <fstream>
#include <sys/file.h>

namespace abyme::system_test {
namespace {

// One at a time, so that tests that run side by side download a package once.
Result<image::Kernel> fetch(const std::string &package) {
  const auto cache = image::Cache::open();
  if (!cache) return std::unexpected(cache.error());
  const Fd lock(::open((cache->root() / "system-tests.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!lock || ::flock(lock.get(), LOCK_EX) != 0) return fail_errno((cache->root() / "system-tests.lock").string());
  return image::find_kernel(*cache, package);
}

} // namespace

void SystemTest::SetUp() {
  char name[] = "/tmp/abyme-system-XXXXXX";
  ASSERT_NE(mkdtemp(name), nullptr);
  directory_ = name;
}

void SystemTest::TearDown() {
  EXPECT_FALSE(has_descendants());
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

void SystemTest::write_file(const std::string &name, std::string_view content) const {
  std::ofstream file(directory_ / name, std::ios::binary);
  file.write(content.data(), static_cast<std::streamsize>(content.size()));
  ASSERT_TRUE(file.good()) << name;
}

std::string SystemTest::read_file(const std::string &name) const {
  std::ifstream file(directory_ / name, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void KernelTest::use_kernel(const std::string &package) {
  auto found = fetch(package);
  if (!found) GTEST_SKIP() << package << ": " << found.error().message;
  // find_kernel() offers the running kernel instead; what it says after ", since: " is why.
  if (const size_t why = found->origin.find(", since: "); why != std::string::npos)
    GTEST_SKIP() << package << found->origin.substr(why + 1);
  ASSERT_FALSE(found->modules.empty()) << package;
  kernel_ = std::move(*found);
}

void KernelTest::make_guest(const GuestImage &guest) const {
  const auto initramfs = make_initramfs(kernel_, guest);
  ASSERT_TRUE(initramfs) << initramfs.error().message;
  write_file("initrd", {reinterpret_cast<const char *>(initramfs->data()), initramfs->size()});
}

std::vector<std::string> KernelTest::run_guest(const std::string &append,
                                               const std::vector<std::string> &options) const {
  std::vector<std::string> all{"run",
                               "--accel",
                               "soft",
                               "--kernel",
                               kernel_.file.string(),
                               "--initrd",
                               path("initrd"),
                               "--append",
                               "console=ttyS0 panic=-1 " + append};
  all.insert(all.end(), options.begin(), options.end());
  return all;
}

} // namespace abyme::system_test
