#include "system/fixture.hpp"

// How a guest ends is reported as what it was, by the VMM at L0 and by the one inside L1.
namespace abyme::system_test {
namespace {

// Linux's parameter `reboot=t` makes a triple fault of a reset.
constexpr const char *kEnd = R"sh(
case $(argument end) in
  reset|triple) reboot -f;;
  panic) echo c >/proc/sysrq-trigger;;
esac
)sh";

struct Row {
  const char *name, *append;
  int status;
  const char *console, *errors;
};
void PrintTo(const Row &row, std::ostream *out) { *out << row.name; }
constexpr Row kRows[] = {
    {"power_off", "end=power_off", 0, "Power down", "the guest powered off"},
    {"reset", "end=reset", 3, "Restarting system", "the guest asked for a reset"},
    {"panic", "end=panic", 3, "Kernel panic - not syncing: sysrq triggered crash", "the guest asked for a reset"},
    {"triple_fault", "end=triple reboot=t", 4, "Restarting system", "triple fault"},
};

class End : public CloudKernel, public testing::WithParamInterface<Row> {};

TEST_P(End, IsReportedAtL1) {
  const Row &row = GetParam();
  ASSERT_NO_FATAL_FAILURE(make_guest({.script = kEnd}));
  Process vm(run_guest(row.append, {"--no-reboot"}));
  EXPECT_EQ(vm.ends(kBoot), row.status) << vm.report();
  EXPECT_THAT(vm.output(), HasSubstr(row.console));
  EXPECT_THAT(vm.errors(), HasSubstr(row.errors));
}

INSTANTIATE_TEST_SUITE_P(Guest, End, testing::ValuesIn(kRows),
                         [](const auto &info) { return std::string(info.param.name); });

TEST_F(CloudKernel, EndsAreReportedAtL2) {
  GuestImage l1{.script = R"sh(
for append in "end=power_off" "end=reset" "end=panic" "end=triple reboot=t"; do
  abyme run --accel kvm --kernel /vmlinuz --initrd /next --memory 192M --no-reboot \
    --append "console=ttyS0 panic=-1 quiet $append" </dev/null 2>&1
  echo "L2 status=$?"
done
)sh"};
  const auto added = add_hypervisor(l1, kernel(), {.script = kEnd});
  ASSERT_TRUE(added) << added.error().message;
  ASSERT_NO_FATAL_FAILURE(make_guest(l1));
  Process vm(run_guest("quiet", {"--no-reboot", "--memory", "640M"}));
  for (const Row &row : kRows) {
    EXPECT_TRUE(vm.says(row.console, kBoot)) << row.name << "\n" << vm.report();
    EXPECT_TRUE(vm.says(row.errors, kBoot)) << row.name << "\n" << vm.report();
    EXPECT_TRUE(vm.says("L2 status=" + std::to_string(row.status), kBoot)) << row.name << "\n" << vm.report();
  }
  EXPECT_EQ(vm.ends(kBoot), 0) << vm.report();
}

} // namespace
} // namespace abyme::system_test
