#include "cli/nest/display.hpp"
#include <nlohmann/json.hpp>

namespace abyme::cli::nest {
namespace {

double seconds(Nanoseconds from, Nanoseconds to) { return static_cast<double>(to - from) / 1e9; }

std::string duration(double ns) {
  if (ns < 1000) return fmt::format("{:.1f} ns", ns);
  if (ns < 1e6) return fmt::format("{:.1f} us", ns / 1e3);
  return fmt::format("{:.1f} ms", ns / 1e6);
}

std::string engine_text(const Level &level) {
  if (level.engine == "soft") return "soft: abyme's CPU";
  if (level.engine == "tcg") return "tcg: QEMU's CPU";
  return level.engine;
}

std::string hypervisor_text(const Options &options, const Level &level) {
  if (level.kvm.empty()) return "-";
  return fmt::format("{} + {}", level.kvm, options.inner == Vmm::Qemu ? "QEMU" : "abyme");
}

std::string boot_text(const Level &level) {
  return level.up ? fmt::format("{:.2f} s", seconds(level.started, *level.up)) : "-";
}

// One line of the tree: how long a level has been booting, then what it took.
std::string tree_line(size_t index, const Level &level, Nanoseconds now) {
  const std::string branch = index == 0 ? "" : std::string((index - 1) * 3, ' ') + "`- ";
  std::string text = fmt::format("{:<14}{:<10}", fmt::format("{}L{}", branch, index + 1), name(level.state));
  if (level.state == Level::State::Waiting) return text;
  if (level.state == Level::State::Boot) return text + fmt::format("{:6.1f} s", seconds(level.started, now));
  if (level.up) text += fmt::format("booted in {}", boot_text(level));
  if (level.cpuid_ns) text += fmt::format(", cpuid {}", duration(*level.cpuid_ns));
  const double measuring = seconds(level.changed, now);
  if (level.state == Level::State::Measuring && measuring > 1)
    text += fmt::format(", measuring for {:.0f} s", measuring);
  return text;
}

} // namespace

Display::~Display() {
  if (terminal_ && drawn_ > 0) fmt::print("\x1b[?25h");
  std::fflush(stdout);
}

void Display::message(const std::string &text) {
  fmt::print("{}\n", text);
  std::fflush(stdout);
}

void Display::update(const Progress &progress, bool changed) {
  if (terminal_)
    draw(progress);
  else if (changed)
    print_changes(progress);
  std::fflush(stdout);
}

void Display::draw(const Progress &progress) {
  fmt::print("\x1b[?25l"); // no cursor that flickers
  if (drawn_ > 0) fmt::print("\x1b[{}A", drawn_);
  drawn_ = progress.levels().size();
  for (size_t i = 0; i < drawn_; i++) fmt::print("\x1b[2K  {}\n", tree_line(i, progress.levels()[i], clock_.now()));
}

void Display::print_changes(const Progress &progress) {
  printed_.resize(progress.levels().size(), Level::State::Waiting);
  for (size_t i = 0; i < printed_.size(); i++) {
    const Level &level = progress.levels()[i];
    if (level.state == printed_[i]) continue;
    printed_[i] = level.state;
    fmt::print("{:7.2f} s  {}\n", seconds(start_, clock_.now()), tree_line(i, level, clock_.now()));
  }
}

std::string table(const Options &options, const Progress &progress) {
  constexpr const char *kRow = "{:<5} {:<17} {:<21} {:<17} {:>7} {:>8}\n";
  std::string text = fmt::format(kRow, "level", "engine", "kernel", "hypervisor", "boot", "cpuid");
  for (size_t i = 0; i < progress.levels().size(); i++) {
    const Level &level = progress.levels()[i];
    text +=
        fmt::format(kRow, fmt::format("L{}", i + 1), engine_text(level), level.kernel, hypervisor_text(options, level),
                    boot_text(level), level.cpuid_ns ? duration(*level.cpuid_ns) : "-");
  }
  return text;
}

std::string json_report(const Options &options, const Images &images, const Progress &progress) {
  using nlohmann::ordered_json;
  ordered_json levels = ordered_json::array();
  for (const Level &level : progress.levels()) {
    ordered_json one{{"level", levels.size() + 1},
                     {"state", name(level.state)},
                     {"engine", level.engine},
                     {"kernel", level.kernel},
                     {"kvm", level.kvm.empty() ? ordered_json() : ordered_json(level.kvm)},
                     {"boot_seconds", nullptr},
                     {"up_after_seconds", nullptr},
                     {"cpuid_ns", nullptr},
                     {"vmm_status", nullptr}};
    if (level.up) {
      one["boot_seconds"] = seconds(level.started, *level.up);
      one["up_after_seconds"] = seconds(progress.levels()[0].started, *level.up);
    }
    if (level.cpuid_ns) one["cpuid_ns"] = *level.cpuid_ns;
    if (level.vmm_status) one["vmm_status"] = *level.vmm_status;
    if (!options.program.empty()) one["output"] = level.output;
    levels.push_back(std::move(one));
  }
  const ordered_json report{{"complete", progress.complete()},
                            {"kernel", images.kernel.origin},
                            {"vmm", options.inner == Vmm::Qemu ? "qemu" : "abyme"},
                            {"memory_mib", images.memory_mib},
                            {"levels", levels}};
  return report.dump(2, ' ', false, ordered_json::error_handler_t::replace);
}

} // namespace abyme::cli::nest
