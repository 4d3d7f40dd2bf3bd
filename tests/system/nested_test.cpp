#include "system/fixture.hpp"
#include <nlohmann/json.hpp>

// Hypervisors inside hypervisors: our VT-x under kvm-intel, our VMM and QEMU on it.
namespace abyme::system_test {
namespace {

constexpr seconds kNested{240};

TEST_F(CloudKernel, L2HasTwoCpusAndADisk) {
  const GuestImage l2{.script = R"sh(
echo "L2 cpus=$(nproc) disk=$(md5sum </dev/vda)"
echo written >/dev/vda
sync
)sh",
                      .modules = {"virtio_pci", "virtio_blk"}};
  GuestImage l1{.script = R"sh(
head -c 262144 /bin/busybox >/tmp/disk
echo "L1 cpus=$(nproc) disk=$(md5sum </tmp/disk)"
abyme run --accel kvm --kernel /vmlinuz --initrd /next --memory 192M --cpus 2 --disk /tmp/disk \
  --append "console=ttyS0 panic=-1 quiet" --no-reboot </dev/null 2>&1
echo "L2 status=$? disk=$(head -c 7 /tmp/disk)"
)sh"};
  const auto added = add_hypervisor(l1, kernel(), l2);
  ASSERT_TRUE(added) << added.error().message;
  ASSERT_NO_FATAL_FAILURE(make_guest(l1));
  Process vm(run_guest("quiet", {"--cpus", "2", "--memory", "640M"}));
  EXPECT_EQ(vm.ends(kNested), 0) << vm.report();
  constexpr std::string_view kL1 = "L1 cpus=2 disk=";
  const size_t at = vm.output().find(kL1);
  ASSERT_NE(at, std::string::npos) << vm.report();
  const auto digest = vm.output().substr(at + kL1.size(), 32);
  EXPECT_THAT(vm.output(), HasSubstr("engine kvm")) << vm.report();
  EXPECT_THAT(vm.output(), HasSubstr("L2 cpus=2 disk=" + digest)) << vm.report();
  EXPECT_THAT(vm.output(), HasSubstr("L2 status=0 disk=written")) << vm.report();
}

// The verb that people meet first.
class Nest : public CloudKernel {
protected:
  static void expect_levels(const std::vector<std::string> &options, size_t levels) {
    std::vector<std::string> all{"nest", "--accel", "soft", "--json"};
    all.insert(all.end(), options.begin(), options.end());
    Process nest(all);
    ASSERT_EQ(nest.ends(kNested), 0) << nest.report();
    const auto report = nlohmann::json::parse(nest.output(), nullptr, false);
    ASSERT_TRUE(report.is_object()) << nest.report();
    EXPECT_EQ(report.at("complete"), true);
    ASSERT_EQ(report.at("levels").size(), levels);
    for (const auto &level : report.at("levels")) {
      EXPECT_EQ(level.at("state"), "done") << nest.report();
      EXPECT_EQ(level.at("vmm_status"), 0) << nest.report();
    }
    EXPECT_EQ(report.at("levels").at(0).at("kvm"), "kvm_intel");
  }
};

TEST_F(Nest, RunsThreeLevels) { expect_levels({"--levels", "3"}, 3); }

TEST_F(Nest, RunsQemuInsideL1) {
  if (!std::filesystem::exists("/usr/bin/qemu-system-x86_64"))
    GTEST_SKIP() << "QEMU is not installed: apt-get install qemu-system-x86";
  expect_levels({"--vmm", "qemu"}, 2);
}

// The suite that every engine passes, on kvm-intel on our VT-x.
TEST_F(CloudKernel, ConformanceInsideL1) {
  GuestImage l1{.script = "conformance_tests --gtest_color=no --gtest_filter='*/kvm-*PortBreakpoints*' 2>&1\necho \"conformance=$?\"",
                .modules = {"irqbypass", "kvm", "kvm-intel"},
                .programs = {{CONFORMANCE_TESTS, "/bin/conformance_tests"}}};
  ASSERT_NO_FATAL_FAILURE(make_guest(l1));
  Process vm(run_guest("quiet", {"--memory", "640M"}));
  EXPECT_EQ(vm.ends(kNested), 0) << vm.report();
  EXPECT_THAT(vm.output(), HasSubstr("conformance=0")) << vm.report();
  EXPECT_THAT(vm.output(), HasSubstr("[  PASSED  ]")) << vm.report();
  EXPECT_THAT(vm.output(), Not(HasSubstr("[  SKIPPED ]"))) << vm.report();
}

} // namespace
} // namespace abyme::system_test
