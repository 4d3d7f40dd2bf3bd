#include "cli/text.hpp"
#include "cli/verbs.hpp"
#include "kvm/probe.hpp"
#include "machine/engine_choice.hpp"
#include "memory/guest_memory.hpp"
#include "x86/cpu_models.hpp"
#include <cstring>
#include <fmt/format.h>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <sched.h>
#include <sys/resource.h>

namespace abyme::cli {
namespace {

using nlohmann::json;

enum class Verdict { Yes, No, Note };

// One line of the report.
struct Finding {
  Verdict verdict;
  std::string topic;
  std::string found;
  std::string means;  // for nesting
  std::string remedy; // of a No: how to change it
};

struct Report {
  std::vector<Finding> findings;
  bool kvm_works = false, soft_works = false;
  std::string automatic; // the engine that --accel auto picks, empty if none works
  std::string reason;
};

std::string brand_string() {
  std::string text;
  for (u32 leaf = 0x8000'0002; leaf <= 0x8000'0004; ++leaf) {
    const auto l = x86::host_cpuid(leaf, 0);
    const u32 words[] = {l.eax, l.ebx, l.ecx, l.edx};
    text.append(reinterpret_cast<const char *>(words), sizeof words);
  }
  text.resize(std::strlen(text.c_str()));
  return text;
}

Finding cpu_finding(const kvm::ProbeResult &probe, const x86::HostFeatures &soft) {
  const auto brand = brand_string();
  const auto lacking =
      x86::make_set({x86::Feature::avx, x86::Feature::avx2, x86::Feature::fma, x86::Feature::bmi2}) & ~soft.features;
  Finding f{Verdict::Yes, "CPU", fmt::format("{} {}", probe.vendor, brand),
            "guests of the software CPU can have the haswell model", ""};
  if (lacking.none()) return f;
  f.verdict = Verdict::No;
  f.means = fmt::format("it lacks {}, so the software CPU's guests lack them too", x86::join_names(lacking));
  f.remedy = "use the models nehalem or max, or a host of 2013 or later that shows AVX2 to this machine";
  return f;
}

Finding virtualization_finding(const kvm::ProbeResult &probe) {
  const bool intel = probe.vendor == "GenuineIntel";
  constexpr u32 kVmx = 1u << 5, kSvm = 1u << 2;
  if (x86::host_cpuid(1, 0).ecx & kVmx)
    return {Verdict::Yes, "VT-x", "this CPU has VT-x", "KVM can run guests on it, and nest them", ""};
  if (!intel && x86::host_cpuid(0x8000'0001, 0).ecx & kSvm)
    return {Verdict::Yes, "SVM", "this CPU has AMD's SVM", "KVM can run guests on it, but not give them Intel's VT-x",
            ""};
  return {Verdict::No, intel ? "VT-x" : "SVM", "the CPU does not show any",
          "hypervisors run on the software CPU, which has VT-x of its own",
          "on a real machine switch it on in the firmware; in a VM ask whoever runs it for nested virtualization"};
}

Finding device_finding(const kvm::ProbeResult &probe) {
  const auto by = probe.module.empty() ? std::string() : fmt::format(" ({})", probe.module);
  if (probe.openable) return {Verdict::Yes, "/dev/kvm", "opens" + by, "see the next line for what it is worth", ""};
  const auto colon = probe.error.find(": ");
  return {Verdict::No, "/dev/kvm", probe.error.substr(0, colon), "the software CPU runs everything",
          colon == probe.error.npos ? "use --accel soft" : probe.error.substr(colon + 2)};
}

Finding vcpu_finding(const kvm::ProbeResult &probe) {
  const auto speed = fmt::format("{:.0f} million instructions/s", probe.instructions_per_second / 1e6);
  if (probe.runs_natively())
    return {Verdict::Yes, "KVM vCPU", "runs 64-bit code, " + speed, "KVM runs guests at full speed", ""};
  return {Verdict::No, "KVM vCPU", probe.error, "KVM here cannot run a 64-bit kernel in reasonable time",
          "use --accel soft, which is faster than this; or a host whose kvm_intel or kvm_amd runs guests on the CPU"};
}

Finding nested_finding(const kvm::ProbeResult &probe) {
  if (probe.nested_vmx)
    return {Verdict::Yes, "nested VT-x", "KVM offers it to guests", "hypervisors can run on KVM", ""};
  const bool intel = probe.module == "kvm_intel";
  return {Verdict::No, "nested VT-x", "KVM does not offer it to guests", "hypervisors run on the software CPU",
          intel ? "modprobe -r kvm_intel && modprobe kvm_intel nested=1"
                : "it takes an Intel CPU with VT-x, and kvm_intel"};
}

// A line of /proc/meminfo, in bytes.
u64 memory_info(std::string_view key) {
  std::ifstream file("/proc/meminfo");
  for (std::string name, unit; file >> name;) {
    u64 kib = 0;
    file >> kib;
    std::getline(file, unit);
    if (name == key) return kib << 10;
  }
  return 0;
}

Finding memory_finding() {
  constexpr u64 kTwoLevels = 1536_MiB;
  const u64 available = memory_info("MemAvailable:");
  Finding f{Verdict::Yes, "memory",
            fmt::format("{} MiB available of {} MiB", available >> 20, memory_info("MemTotal:") >> 20),
            "room for abyme nest; a VM takes what its guest touches", ""};
  if (available >= kTwoLevels) return f;
  f.verdict = Verdict::No;
  f.means = "abyme nest with two levels wants 1536 MiB";
  f.remedy = "give this machine more memory, or the VMs less (--memory)";
  return f;
}

Finding cpus_finding() {
  cpu_set_t set;
  const int cpus = ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  return {Verdict::Note, "processors", fmt::format("{}", cpus), "each busy vCPU takes one", ""};
}

std::string limit_text(rlim_t value) { return value == RLIM_INFINITY ? "unlimited" : fmt::format("{}", value); }

Finding files_finding() {
  constexpr rlim_t kPerVm = 64;
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  Finding f{Verdict::Yes, "open files", fmt::format("limit {}", limit_text(limit.rlim_cur)), "a VM takes some tens",
            ""};
  if (limit.rlim_cur >= kPerVm) return f;
  f.verdict = Verdict::No;
  f.remedy = fmt::format("ulimit -n {} (the hard limit is {})", 1024, limit_text(limit.rlim_max));
  return f;
}

Finding address_space_finding() {
  rlimit limit{};
  ::getrlimit(RLIMIT_AS, &limit);
  Finding f{Verdict::Yes, "addresses", fmt::format("limit {}", limit_text(limit.rlim_cur)),
            "guest memory is reserved lazily, all at once", ""};
  if (limit.rlim_cur == RLIM_INFINITY) return f;
  f.verdict = Verdict::No;
  f.remedy = "ulimit -v unlimited";
  return f;
}

// Whether guest memory can be had at all: the software CPU needs nothing else of the host.
Finding soft_finding(const x86::HostFeatures &soft) {
  const auto memory = GuestMemory::create(64_MiB);
  if (memory) {
    const bool haswell = x86::make_profile("haswell", soft, 1).has_value();
    return {Verdict::Yes, "soft CPU",
            fmt::format("VT-x with EPT, {}", haswell ? "models nehalem to max" : "models nehalem and max"),
            "hypervisors run on it wherever this program does", ""};
  }
  return {Verdict::No, "soft CPU", memory.error().message, "no guest can have memory",
          "allow memfd_create and mappings for this user (a container's seccomp profile, ulimit -v)"};
}

void choose_engine(Report &report, const kvm::ProbeResult &probe) {
  report.kvm_works = machine::pick_engine(probe, false).engine == machine::Accel::Kvm;
  const auto pick = machine::pick_engine(probe, true);
  report.reason = pick.reason;
  if (pick.engine == machine::Accel::Kvm || report.soft_works) report.automatic = machine::name(pick.engine);
}

Report examine() {
  Report report;
  const auto probe = kvm::probe();
  const auto soft = x86::software_cpu_features();
  auto &f = report.findings;
  f.push_back(cpu_finding(probe, soft));
  f.push_back(virtualization_finding(probe));
  f.push_back(device_finding(probe));
  if (probe.openable) {
    f.push_back(vcpu_finding(probe));
    f.push_back(nested_finding(probe));
  }
  f.push_back(soft_finding(soft));
  report.soft_works = f.back().verdict == Verdict::Yes;
  f.push_back(memory_finding());
  f.push_back(cpus_finding());
  f.push_back(files_finding());
  f.push_back(address_space_finding());
  choose_engine(report, probe);
  return report;
}

const char *word_of(Verdict verdict) {
  switch (verdict) {
  case Verdict::Yes: return "yes";
  case Verdict::No: return "no";
  case Verdict::Note: return "-";
  }
  __builtin_unreachable();
}

void print_report(const Report &report) {
  constexpr size_t kIndent = 17;
  for (const auto &f : report.findings) {
    fmt::print("{:<4} {:<12}{}\n", word_of(f.verdict), f.topic,
               wrap(fmt::format("{}: {}", f.found, f.means), kIndent, kIndent));
    if (f.verdict == Verdict::No) fmt::print("{:17}{}\n", "", wrap("to change it: " + f.remedy, kIndent, kIndent));
  }
  const auto picks = report.automatic.empty() ? std::string("nothing") : report.automatic;
  fmt::print("\n{}\n", wrap(fmt::format("--accel auto picks {} for a hypervisor: {}", picks, report.reason), 0, 2));
}

json report_json(const Report &report) {
  json findings = json::array();
  for (const auto &f : report.findings) {
    json one = {{"topic", f.topic},
                {"verdict", f.verdict == Verdict::Note ? "note" : word_of(f.verdict)},
                {"found", f.found},
                {"means", f.means}};
    if (!f.remedy.empty()) one["remedy"] = f.remedy;
    findings.push_back(std::move(one));
  }
  return {
      {"findings", findings},
      {"engines", {{"kvm", report.kvm_works}, {"soft", report.soft_works}}},
      {"auto", {{"engine", report.automatic.empty() ? json() : json(report.automatic)}, {"reason", report.reason}}}};
}

} // namespace

void add_doctor(CLI::App &app, int &status) {
  auto *verb = app.add_subcommand("doctor", "Say what this host offers, and which engine auto picks");
  verb->footer("Exit status: 0 if an engine works here, 1 if none does.");
  auto *as_json = verb->add_flag("--json")->description("Print JSON");
  verb->callback([&status, as_json] {
    const auto report = examine();
    if (as_json->count() > 0)
      fmt::print("{}\n", report_json(report).dump(2, ' ', false, json::error_handler_t::replace));
    else
      print_report(report);
    status = report.automatic.empty() && !report.kvm_works ? 1 : 0;
  });
}

} // namespace abyme::cli
