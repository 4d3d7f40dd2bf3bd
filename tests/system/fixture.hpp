#pragma once
#include "system/guest_image.hpp"
#include "system/process.hpp"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace abyme::system_test {

using testing::HasSubstr;
using testing::Not;

constexpr const char *kCloudKernel = "linux-image-cloud-amd64", *kOrdinaryKernel = "linux-image-amd64";
// What the whole of a level may take on a machine that is busy with other things.
constexpr seconds kBoot{90};

// A test with a folder of its own.
class SystemTest : public testing::Test {
protected:
  void SetUp() override;
  void TearDown() override;

  void write_file(const std::string &name, std::string_view content) const;
  [[nodiscard]] std::string read_file(const std::string &name) const;
  [[nodiscard]] std::string path(const std::string &name) const { return (directory_ / name).string(); }
  [[nodiscard]] Process::Setting here() const { return {.directory = directory_}; }

private:
  std::filesystem::path directory_;
};

// A test that boots a kernel of Debian's. It skips where the package cannot be had.
class KernelTest : public SystemTest {
protected:
  void use_kernel(const std::string &package);
  [[nodiscard]] const image::Kernel &kernel() const { return kernel_; }

  // Writes the initramfs to the test's folder.
  void make_guest(const GuestImage &guest) const;
  // `abyme run --accel soft` of this kernel and that initramfs, and more options.
  [[nodiscard]] std::vector<std::string> run_guest(const std::string &append,
                                                   const std::vector<std::string> &options = {}) const;

private:
  image::Kernel kernel_;
};

class CloudKernel : public KernelTest {
protected:
  void SetUp() override {
    KernelTest::SetUp();
    use_kernel(kCloudKernel);
  }
};

} // namespace abyme::system_test
