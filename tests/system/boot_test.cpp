#include "system/fixture.hpp"
#include <fstream>

// Debian's kernels to a shell that answers.
namespace abyme::system_test {
namespace {

constexpr const char *kShell = "setsid cttyhack sh";

struct Row {
  const char *name, *package;
  unsigned cpus;
};
void PrintTo(const Row &row, std::ostream *out) { *out << row.name; }

class Boot : public KernelTest, public testing::WithParamInterface<Row> {};

TEST_P(Boot, ReachesAShell) {
  ASSERT_NO_FATAL_FAILURE(use_kernel(GetParam().package));
  if (IsSkipped()) return;
  ASSERT_NO_FATAL_FAILURE(make_guest({.script = kShell}));
  Process vm(run_guest("quiet", {"--cpus", std::to_string(GetParam().cpus)}));
  ASSERT_TRUE(vm.says("# ", kBoot)) << vm.report();
  vm.type("echo kernel=$(uname -r) cpus=$(nproc) product=$((6 * 7))\n");
  EXPECT_TRUE(vm.says("kernel=" + kernel().version + " cpus=" + std::to_string(GetParam().cpus) + " product=42", kBoot))
      << vm.report();
  vm.type("poweroff -f\n");
  EXPECT_EQ(vm.ends(kBoot), 0) << vm.report();
  EXPECT_THAT(vm.errors(), HasSubstr("the guest powered off"));
}

INSTANTIATE_TEST_SUITE_P(Debian, Boot,
                         testing::Values(Row{"cloud_1", kCloudKernel, 1}, Row{"cloud_4", kCloudKernel, 4},
                                         Row{"ordinary_1", kOrdinaryKernel, 1}, Row{"ordinary_4", kOrdinaryKernel, 4}),
                         [](const auto &info) { return std::string(info.param.name); });

unsigned long available_mib() {
  std::ifstream file("/proc/meminfo");
  std::string word;
  while (file >> word && word != "MemAvailable:") {
  }
  unsigned long kib = 0;
  file >> kib;
  return kib >> 10;
}

// The most of both: 16 vCPUs that queue for Linux's locks while it makes its tables of 64 GiB, 60 of it above the hole.
TEST_F(CloudKernel, SixteenCpusAnd64GiB) {
  constexpr unsigned long kNeeded = 2048; // Linux's tables are a sixty-fourth of the RAM that they tell of
  if (available_mib() < kNeeded)
    GTEST_SKIP() << "needs " << kNeeded << " MiB of available memory, this machine has " << available_mib();
  ASSERT_NO_FATAL_FAILURE(make_guest({.script = R"sh(
awk '/MemTotal/ { if ($2 > 60000000) print "memory=all"; else print "memory=" $2 }' /proc/meminfo
grep -q '^100000000-.*System RAM' /proc/iomem && echo above=yes
echo cpus=$(nproc)
)sh"}));
  Process vm(run_guest("quiet", {"--cpus", "16", "--memory", "64G"}));
  EXPECT_EQ(vm.ends(kBoot), 0) << vm.report();
  for (const char *text : {"memory=all", "above=yes", "cpus=16"}) EXPECT_THAT(vm.output(), HasSubstr(text));
}

} // namespace
} // namespace abyme::system_test
