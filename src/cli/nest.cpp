#include "base/result.hpp"
#include "cli/nest/display.hpp"
#include "cli/nest/outer_vmm.hpp"
#include "cli/verbs.hpp"
#include <CLI/CLI.hpp>
#include <csignal>
#include <fstream>
#include <poll.h>
#include <sys/signalfd.h>

namespace abyme::cli {
namespace {

using namespace nest;

constexpr int kLevelFailed = 1, kBadInput = 2;
constexpr int kRedrawMilliseconds = 100;

constexpr const char *kFooter = R"(
Each level is a VM that runs inside the one before: L1 on this machine, L2 in L1's KVM, and so on. Every level
boots Debian's kernel, measures what a VM exit costs there (the instruction CPUID), and starts the next. The kernel
comes from Debian's package, downloaded once to ~/.cache/abyme; nothing is installed.

Examples:
  abyme nest                        L1 and L2, abyme the VMM of both
  abyme nest --levels 3             one deeper
  abyme nest --vmm qemu             Debian's QEMU inside L1
  abyme nest --kernel linux-image-amd64
  abyme nest --json --levels 1      for a script

Exit status: 0 every level came up and powered off; 1 one did not (standard error says which and why);
2 bad input; 130 Ctrl-C.)";

// SIGINT and SIGTERM as a descriptor, so that nothing happens between two steps.
Result<Fd> ending_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, signal);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  Fd fd(::signalfd(-1, &set, SFD_CLOEXEC));
  if (!fd) return fail_errno("signalfd");
  return fd;
}

enum class Outcome { Ended, Interrupted, TimedOut };

// Follows the levels until L1's VMM closes its output, the user has enough, or time is up.
Outcome follow(OuterVmm &vmm, const Options &options, const Fd &signals, const Clock &clock, Progress &progress,
               Display *display) {
  std::ofstream log;
  if (!options.log.empty()) log.open(options.log);
  const Nanoseconds deadline = clock.now() + options.timeout_seconds * u64{1'000'000'000};
  for (;;) {
    pollfd sources[] = {{vmm.output(), POLLIN, 0}, {signals.get(), POLLIN, 0}};
    ::poll(sources, 2, kRedrawMilliseconds);
    bool changed = false;
    const bool open = vmm.read([&](std::string_view line) {
      if (log.is_open()) log << line << '\n' << std::flush;
      changed |= progress.line(line);
      if (display && changed) display->update(progress, true);
    });
    if (display) display->update(progress, changed);
    if (!open) return Outcome::Ended;
    if (sources[1].revents & POLLIN) return Outcome::Interrupted;
    if (clock.now() > deadline) return Outcome::TimedOut;
  }
}

std::string failure(const Progress &progress, Outcome outcome, const Options &options) {
  const unsigned number = progress.failed_level();
  const Level &level = progress.levels()[number - 1];
  auto text = fmt::format("abyme nest: L{} did not {}", number, level.up ? "finish" : "come up");
  if (outcome == Outcome::TimedOut)
    text += fmt::format(" within {} s (--timeout)", options.timeout_seconds);
  else if (level.vmm_status)
    text += fmt::format(": its VMM ended with status {}", *level.vmm_status);
  text += progress.last_lines().empty() ? "\n" : "; the last that was said:\n";
  for (const auto &line : progress.last_lines()) text += "  " + line + "\n";
  if (options.log.empty()) text += "--log FILE keeps all that the levels say.\n";
  return text;
}

Result<int> run_levels(const Options &options) {
  if (!options.log.empty() && !std::ofstream(options.log)) return fail_errno("--log " + options.log);
  const auto signals = ending_signals();
  if (!signals) return std::unexpected(signals.error());
  const HostClock clock;
  const bool terminal = ::isatty(STDOUT_FILENO) && !options.json;
  std::optional<Display> display;
  if (!options.json) display.emplace(terminal, clock);
  if (display) display->message(fmt::format("making the images of {} levels", options.levels));
  const auto images = make_images(options);
  if (!images) return std::unexpected(images.error());
  if (display) display->message(fmt::format("kernel: {}", images->kernel.origin));

  auto vmm = OuterVmm::start(options, *images);
  if (!vmm) return std::unexpected(vmm.error());
  Progress progress(options.levels, clock);
  progress.start(options.outer == Vmm::Qemu ? "tcg" : "");
  if (display) display->update(progress, true);
  const Outcome outcome = follow(*vmm, options, *signals, clock, progress, display ? &*display : nullptr);
  progress.end(vmm->wait(outcome != Outcome::Ended));
  if (display) display->update(progress, true);
  display.reset();
  if (outcome == Outcome::Interrupted) {
    fmt::print(stderr, "abyme nest: ended by the user; every level is off\n");
    return 128 + SIGINT;
  }
  if (options.json)
    fmt::print("{}\n", json_report(options, *images, progress));
  else
    fmt::print("\n{}", table(options, progress));
  if (progress.complete()) return 0;
  fmt::print(stderr, "{}", failure(progress, outcome, options));
  return kLevelFailed;
}

CLI::Option *add_vmm(CLI::App &verb, const std::string &name, Vmm &vmm) {
  const auto store = [&vmm](const std::string &text) { vmm = text == "qemu" ? Vmm::Qemu : Vmm::Abyme; };
  return verb.add_option_function<std::string>(name, store)->check(CLI::IsMember({"abyme", "qemu"}));
}

void add_options(CLI::App &verb, Options &options) {
  verb.add_option("--levels", options.levels, "How deep")
      ->capture_default_str()
      ->check(CLI::Range(1u, kMaxLevels))
      ->type_name("N");
  add_vmm(verb, "--vmm", options.inner)
      ->description("The VMM inside the levels: abyme or qemu (Debian's qemu-system-x86)")
      ->type_name("VMM");
  verb.add_option("--accel", options.accel, "What executes L1: kvm, soft or auto, as in abyme run")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "kvm", "soft"}))
      ->type_name("ENGINE");
  verb.add_option("--kernel", options.kernel, "A Debian package, or a bzImage file")
      ->capture_default_str()
      ->type_name("PACKAGE|FILE");
  verb.add_option("--cpus", options.cpus, "vCPUs of every level")
      ->capture_default_str()
      ->check(CLI::Range(1u, 16u))
      ->type_name("N");
  verb.add_option("--program", options.program, "A program that every level runs; --json has what it prints")
      ->type_name("'FILE ARGUMENTS'");
  verb.add_option("--log", options.log, "Keep all that the levels' consoles say")->type_name("FILE");
  verb.add_option("--timeout", options.timeout_seconds, "Give up after this")
      ->capture_default_str()
      ->check(CLI::Range(1u, 86400u))
      ->type_name("SECONDS");
  verb.add_flag("--json", options.json, "Print JSON, at the end");
  // For benchmarks: --stats of L1's abyme run.
  verb.add_option("--stats", options.stats)->group("");
  // To compare with: the same levels on QEMU's software CPU.
  add_vmm(verb, "--outer-vmm", options.outer)->group("");
}

} // namespace

void add_nest(CLI::App &app, int &status) {
  auto *verb = app.add_subcommand("nest", "Boot levels of virtual machines, each inside the one before");
  auto options = std::make_shared<Options>();
  add_options(*verb, *options);
  verb->footer(kFooter);
  verb->callback([options, &status] {
    const auto result = run_levels(*options);
    if (!result) fmt::print(stderr, "abyme nest: {}\n", result.error().message);
    status = result.value_or(kBadInput);
  });
}

} // namespace abyme::cli
