#include "system/fixture.hpp"

// Debian's kernels to a shell that answers.
namespace abyme::system_test {
namespace {

constexpr const char *kShell = "setsid cttyhack sh";

struct Row {
  const char *name, *package;
  unsigned cpus;
};

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

// The largest number of vCPUs, and RAM on both sides of the hole below 4 GiB.
TEST_F(CloudKernel, SixteenCpusAndRamAboveTheHole) {
  ASSERT_NO_FATAL_FAILURE(make_guest({.script = R"sh(
awk '/MemTotal/ { if ($2 > 4800000) print "memory=all"; else print "memory=" $2 }' /proc/meminfo
grep -q '^100000000-.*System RAM' /proc/iomem && echo above=yes
echo cpus=$(nproc)
)sh"}));
  Process vm(run_guest("quiet", {"--cpus", "16", "--memory", "5G"}));
  EXPECT_EQ(vm.ends(kBoot), 0) << vm.report();
  for (const char *text : {"memory=all", "above=yes", "cpus=16"}) EXPECT_THAT(vm.output(), HasSubstr(text));
}

} // namespace
} // namespace abyme::system_test
