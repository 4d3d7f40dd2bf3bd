#include "system/fixture.hpp"
#include <csignal>
#include <termios.h>

// The console on a terminal: raw while the guest has it, itself again on every way out.
namespace abyme::system_test {
namespace {

constexpr seconds kShort{20};
constexpr std::string_view kEscape = "\x1dq"; // Ctrl-] q

termios settings(const Process &process) {
  termios found{};
  EXPECT_EQ(tcgetattr(process.terminal(), &found), 0);
  return found;
}

bool is_raw(const termios &found) { return !(found.c_lflag & (ICANON | ECHO | ISIG)); }

bool is_ordinary(const termios &found) {
  constexpr tcflag_t kLocal = ICANON | ECHO | ISIG | IEXTEN;
  return (found.c_lflag & kLocal) == kLocal && (found.c_iflag & ICRNL) && (found.c_oflag & OPOST);
}

class Terminal : public SystemTest {
protected:
  static Process::Setting terminal() { return {.input = Process::Input::Terminal}; }
  static std::vector<std::string> idle_guest() {
    return {"run", "--accel", "soft", "--kernel", GUEST_IDLE, "--memory", "16M"};
  }
};

TEST_F(Terminal, EscapeKeyEnds) {
  Process vm(idle_guest(), terminal());
  ASSERT_TRUE(vm.says("up", kShort)) << vm.report();
  EXPECT_TRUE(is_raw(settings(vm)));
  EXPECT_THAT(vm.output() + vm.errors(), HasSubstr("Ctrl-] q"));
  vm.type("\x03\x1dx"); // Ctrl-C is the guest's, and Ctrl-] something else does nothing
  EXPECT_EQ(vm.ends(seconds(1)), std::nullopt) << vm.report();
  vm.type(kEscape);
  EXPECT_EQ(vm.ends(kShort), 130) << vm.report();
  EXPECT_TRUE(is_ordinary(settings(vm)));
}

TEST_F(Terminal, SignalsEndAndRestoreIt) {
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    Process vm(idle_guest(), terminal());
    ASSERT_TRUE(vm.says("up", kShort)) << vm.report();
    ASSERT_TRUE(is_raw(settings(vm)));
    vm.signal(number);
    EXPECT_EQ(vm.ends(kShort), 128 + number) << vm.report();
    EXPECT_TRUE(is_ordinary(settings(vm))) << number;
  }
}

TEST_F(Terminal, GuestsEndRestoresIt) {
  Process vm({"run", "--accel", "soft", "--kernel", GUEST_HIDDEN_VMX, "--memory", "16M"}, terminal());
  EXPECT_EQ(vm.ends(kShort), 0) << vm.report();
  EXPECT_TRUE(is_ordinary(settings(vm)));
}

TEST_F(Terminal, BadInputLeavesItAlone) {
  Process vm({"run", "--accel", "soft", "--kernel", "/dev/null"}, terminal());
  EXPECT_EQ(vm.ends(kShort), 2) << vm.report();
  EXPECT_TRUE(is_ordinary(settings(vm)));
}

class ShellOnATerminal : public CloudKernel {};

TEST_F(ShellOnATerminal, CtrlCReachesTheGuest) {
  ASSERT_NO_FATAL_FAILURE(make_guest({.script = "setsid cttyhack sh"}));
  Process vm(run_guest("quiet"), {.input = Process::Input::Terminal});
  ASSERT_TRUE(vm.says("# ", kBoot)) << vm.report();
  vm.type("echo begin$((1 + 1)); sleep 1000\n");
  ASSERT_TRUE(vm.says("begin2", kBoot)) << vm.report();
  vm.type("\x03");
  ASSERT_TRUE(vm.says("# ", kBoot)) << vm.report();
  vm.type("echo status=$?\n");
  EXPECT_TRUE(vm.says("status=130", kBoot)) << vm.report();
  vm.type(kEscape);
  EXPECT_EQ(vm.ends(kShort), 130) << vm.report();
  EXPECT_TRUE(is_ordinary(settings(vm)));
}

} // namespace
} // namespace abyme::system_test
