// Compares abyme's software CPU with the host's, instruction form by instruction form.
#include "compare.hpp"
#include "emulated.hpp"
#include "forms.hpp"
#include "native.hpp"
#include "operands.hpp"
#include "x86/cpu_models.hpp"
#include <CLI/CLI.hpp>
#include <chrono>
#include <fmt/format.h>
#include <map>

namespace {

using namespace abyme;
using namespace abyme::differential;
using Clock = std::chrono::steady_clock;

struct Options {
  u64 seed = 1;
  double seconds = 20;
  u64 cases = 0; // instead of seconds: the same work on any machine
  bool fuzz = false, list = false;
  std::string form;
  unsigned shown = 20;
};

struct Tally {
  u64 cases = 0, differences = 0;
  std::map<std::string, unsigned> by_form;
};

class Comparison {
public:
  Comparison(const Options &options, const x86::CpuProfile &profile)
      : options_(options), random_(options.seed), emulated_(profile, native_.fs_base()) {
    std::memset(data_, 0, sizeof data_);
  }

  // A batch of cases of the forms from `next` on.
  void batch(const std::vector<Form> &forms, size_t &next) {
    const Form *of[Native::kBatch];
    Instance instances[Native::kBatch];
    unsigned count = 0;
    while (count < Native::kBatch) {
      const Form &form = forms[next++ % forms.size()];
      const auto instance = vary(form, random_);
      std::memcpy(native_.in(count).data, data_, sizeof data_);
      if (!instance || !make_case(*instance, random_, native_.fs_base(), native_.in(count))) continue;
      of[count] = &form;
      // The displacement may have been chosen only now.
      instances[count] = *instance;
      if (!decode(native_.in(count).code, 15, native_.in(count).compatible, instances[count].decoded)) continue;
      ++count;
    }
    if (!native_.run(count)) {
      fmt::print("the native process died in one of {} ...\n", of[0]->name);
      ++tally_.differences;
      return;
    }
    for (unsigned n = 0; n < count; ++n) check(*of[n], instances[n], native_.in(n), native_.out(n));
    std::memcpy(data_, native_.out(count - 1).data, sizeof data_);
  }

  [[nodiscard]] const Tally &tally() const { return tally_; }

private:
  void check(const Form &form, const Instance &instance, const Case &c, const Outcome &native) {
    static Outcome emulated;
    emulated_.run(c, emulated);
    ++tally_.cases;
    const std::string text = compare(c, instance.decoded, native, emulated);
    if (text.empty()) return;
    ++tally_.differences;
    if (tally_.by_form[form.name]++ == 0 && tally_.by_form.size() <= options_.shown) show(form, instance, c, text);
  }

  static void show(const Form &form, const Instance &instance, const Case &c, const std::string &text) {
    ZydisFormatter formatter;
    ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
    char line[128];
    ZydisFormatterFormatInstruction(&formatter, &instance.decoded.instruction, instance.decoded.operands,
                                    instance.decoded.instruction.operand_count_visible, line, sizeof line, c.before.rip,
                                    nullptr);
    std::string bytes;
    for (unsigned n = 0; n < c.length; ++n) bytes += fmt::format("{:02x} ", c.code[n]);
    fmt::print("[{}] {}: {}\n{}", form.name, bytes, line, text);
    fmt::print("  before: rax {:#x} rcx {:#x} rdx {:#x} rflags {:#x} mxcsr {:#x} fcw {:#x} fsw {:#x}\n",
               c.before.gpr[0], c.before.gpr[1], c.before.gpr[2], c.before.rflags, c.before.mxcsr, c.before.fcw,
               c.before.fsw);
  }

  const Options &options_;
  Random random_;
  Native native_;
  Emulated emulated_;
  Tally tally_;
  u8 data_[kDataSize];
};

std::vector<Form> chosen(const Options &options, const x86::CpuProfile &profile) {
  std::vector<Form> forms = all_forms(profile);
  if (!options.form.empty())
    std::erase_if(forms, [&](const Form &f) { return f.name.find(options.form) == std::string::npos; });
  return forms;
}

int run(const Options &options) {
  const auto profile = x86::make_profile("max", x86::software_cpu_features(), 1);
  if (!profile) {
    fmt::print(stderr, "no CPU profile for this host\n");
    return 2;
  }
  const std::vector<Form> forms = chosen(options, *profile);
  if (options.list || forms.empty()) {
    for (const auto &f : forms) fmt::print("{}\n", f.name);
    return forms.empty() ? 2 : 0;
  }
  Comparison comparison(options, *profile);
  const auto start = Clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  size_t next = 0;
  const Tally &tally = comparison.tally();
  const auto over = [&] { return options.cases ? tally.cases >= options.cases : elapsed() >= options.seconds; };
  while (options.fuzz || !over()) comparison.batch(forms, next);
  fmt::print("{} forms, {} cases in {:.1f} s, {} differences in {} forms\n", forms.size(), tally.cases, elapsed(),
             tally.differences, tally.by_form.size());
  for (const auto &[name, count] : tally.by_form) fmt::print("  {} x {}\n", count, name);
  return tally.differences ? 1 : 0;
}

} // namespace

int main(int argc, char **argv) {
  Options options;
  CLI::App app{"Compares abyme's software CPU with the host's, instruction by instruction"};
  app.add_option("--seed", options.seed, "Of the operands");
  app.add_option("--seconds", options.seconds, "How long");
  app.add_option("--cases", options.cases, "How many cases, instead of how long");
  app.add_flag("--fuzz", options.fuzz, "Until interrupted");
  app.add_flag("--list", options.list, "Print the forms");
  app.add_option("--form", options.form, "Only forms whose name contains this");
  app.add_option("--shown", options.shown, "How many forms' differences to print");
  bool differences = false;
  app.add_flag("--differences", differences, "Print what CPUs do differently and is not compared");
  CLI11_PARSE(app, argc, argv);
  if (differences) {
    fmt::print("{}", listed_differences());
    return 0;
  }
  return run(options);
}
