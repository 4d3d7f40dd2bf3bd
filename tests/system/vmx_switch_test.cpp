#include "system/fixture.hpp"

// "-vmx" hides VT-x from everything in the guest; without it, it is there.
namespace abyme::system_test {
namespace {

// Before and after: where the RDMSR and the CR4 bit are allowed, VMXON still wants paging (CR0 fixed bits), so #GP.
TEST_F(SystemTest, HiddenVmxFaults) {
  for (const auto &[cpu, vectors] : {std::pair("max", "--D"), std::pair("max,-vmx", "DD6")}) {
    Process vm({"run", "--accel", "soft", "--kernel", GUEST_HIDDEN_VMX, "--memory", "16M", "--cpu", cpu});
    EXPECT_EQ(vm.ends(seconds(20)), 0) << vm.report();
    EXPECT_EQ(vm.output(), std::string(vectors) + "\n") << cpu << "\n" << vm.report();
  }
}

TEST_F(CloudKernel, KvmIntelRefusesWithoutVmx) {
  ASSERT_NO_FATAL_FAILURE(make_guest({.script = R"sh(
echo "flags=$(grep -cw vmx /proc/cpuinfo)"
ls /dev/kvm 2>/dev/null && echo kvm=there
lsmod | grep -q '^kvm_intel' || echo kvm_intel=refused
)sh",
                                      .modules = {"kvm-intel"}}));
  Process vm(run_guest("quiet", {"--cpu", "max,-vmx"}));
  EXPECT_EQ(vm.ends(kBoot), 0) << vm.report();
  for (const char *text : {"flags=0", "kvm_intel=refused"}) EXPECT_THAT(vm.output(), HasSubstr(text));
  EXPECT_THAT(vm.output(), Not(HasSubstr("kvm=there")));
}

} // namespace
} // namespace abyme::system_test
