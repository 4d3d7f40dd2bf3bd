#include "machine/run.hpp"
#include "base/result.hpp"
#include "cli/verbs.hpp"
#include "machine/options.hpp"
#include <CLI/CLI.hpp>

namespace abyme::cli {
namespace {

constexpr int kBadInput = 2;

constexpr const char *kFooter = R"(
Kernels: a Linux bzImage (boot/vmlinuz-* of Debian's linux-image packages), an ELF file with a PVH
note (Linux's vmlinux), or a multiboot 1 image. Which one it is, its content tells.

Examples:
  abyme run --kernel vmlinuz --initrd initrd.img --append 'console=ttyS0'
      a Linux kernel with its console on this terminal. Without console=ttyS0 it prints nothing.
  abyme run --kernel vmlinuz --append 'console=ttyS0 root=/dev/vda1' --disk debian.raw --memory 2G --cpus 4
      from a disk. Disks are raw files: vda, vdb, ... in the order given.
  abyme run --kernel vmlinuz --append 'console=ttyS0 panic=-1' --no-reboot
      for a script: a panic ends the VM, with status 3.
  abyme run --kernel vmlinuz --accel soft --trace exits,level=2,file=trace.txt
      every exit of what runs inside the guest's VT-x.

Exit status:
  0    the guest powered off
  2    bad input, or the VM could not start (standard error says why)
  3    the guest asked for a reset, and --no-reboot was given
  4    triple fault: the guest shut down a CPU in a way that a real PC answers with a reset
  5    an error of abyme's own (standard error has a dump of the vCPU)
  130  ended by the escape key (Ctrl-] q) or Ctrl-C; 128 + N: by signal N
  (V << 1) | 1  the guest wrote V to its debug-exit device (port 0xf4, with --testdev)
The last line on standard error says the same in words.)";

// What CLI11 fills in, before any of it is understood.
struct RunArguments {
  std::string kernel, initrd, append, memory = "512M", cpu, accel = "auto", trace, stats;
  unsigned cpus = 1;
  std::vector<std::string> disks, nets, consoles{"stdio"};
  bool test_devices = false, no_reboot = false;
};

Result<void> parse_lists(const RunArguments &arguments, machine::MachineConfig &config) {
  for (const auto &text : arguments.disks) {
    auto disk = machine::parse_disk(text);
    if (!disk) return std::unexpected(disk.error());
    config.disks.push_back(std::move(*disk));
  }
  for (const auto &text : arguments.nets) {
    auto net = machine::parse_net(text);
    if (!net) return std::unexpected(net.error());
    config.nets.push_back(std::move(*net));
  }
  std::vector<machine::ConsoleSpec> consoles;
  for (const auto &text : arguments.consoles) {
    auto console = machine::parse_console(text);
    if (!console) return std::unexpected(console.error());
    consoles.push_back(std::move(*console));
  }
  if (consoles.size() > 2)
    return fail("--console: given {} times; at most two are right: ttyS0, then hvc0", consoles.size());
  using Kind = machine::ConsoleSpec::Kind;
  if (consoles.size() == 2 && consoles[0].kind == Kind::Stdio && consoles[1].kind == Kind::Stdio)
    return fail("--console stdio: only one console can have the terminal");
  config.serial = consoles[0];
  if (consoles.size() == 2) config.hypervisor = consoles[1];
  return {};
}

Result<machine::MachineConfig> parse(const RunArguments &arguments) {
  machine::MachineConfig config;
  config.kernel = arguments.kernel;
  if (!arguments.initrd.empty()) config.initrd = arguments.initrd;
  config.command_line = arguments.append;
  config.cpu = arguments.cpu;
  config.test_devices = arguments.test_devices;
  config.no_reboot = arguments.no_reboot;
  config.cpus = arguments.cpus;
  if (config.cpus < 1 || config.cpus > machine::kMaxCpus)
    return fail("--cpus {}: 1 to {} is right", config.cpus, machine::kMaxCpus);
  const auto memory = machine::parse_memory(arguments.memory);
  if (!memory) return std::unexpected(memory.error());
  config.memory = *memory;
  const auto accel = machine::parse_accel(arguments.accel);
  if (!accel) return std::unexpected(accel.error());
  config.accel = *accel;
  if (!arguments.trace.empty()) {
    auto trace = machine::parse_trace(arguments.trace);
    if (!trace) return std::unexpected(trace.error());
    config.trace = std::move(*trace);
  }
  if (auto lists = parse_lists(arguments, config); !lists) return std::unexpected(lists.error());
  return config;
}

int run(const RunArguments &arguments) {
  const auto config = parse(arguments);
  const auto status = config ? machine::run_vm(*config, arguments.stats) : Result<int>(std::unexpected(config.error()));
  if (status) return *status;
  fmt::print(stderr, "abyme run: {}\n", status.error().message);
  return kBadInput;
}

} // namespace

void add_run(CLI::App &app, int &status) {
  auto *verb = app.add_subcommand("run", "Run a virtual machine");
  auto arguments = std::make_shared<RunArguments>();
  verb->add_option("--kernel", arguments->kernel, "The kernel to boot")->required()->type_name("FILE");
  verb->add_option("--initrd", arguments->initrd, "Its initial RAM disk (multiboot: its module)")->type_name("FILE");
  verb->add_option("--append", arguments->append, "Its command line")->type_name("TEXT");
  verb->add_option("--cpus", arguments->cpus, "vCPUs, 1 to 16")->capture_default_str()->type_name("N");
  verb->add_option("--memory", arguments->memory, "RAM, 16M to 64G with K, M or G")
      ->capture_default_str()
      ->type_name("SIZE");
  verb->add_option("--cpu", arguments->cpu,
                   "CPU model and features to add or hide; -vmx hides VT-x. 'abyme cpu-models' lists them")
      ->type_name("MODEL[,+F,-F]");
  verb->add_option("--accel", arguments->accel,
                   "What executes the guest: kvm (this host's), soft (abyme's own CPU), or auto: kvm where it can "
                   "really run the guest, "
                   "else soft. Which one and why is said at the start")
      ->capture_default_str()
      ->type_name("ENGINE");
  verb->add_option("--disk", arguments->disks, "A raw disk, ',ro' for read-only; may be repeated")
      ->type_name("FILE[,ro]")
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  verb->add_option("--net", arguments->nets, "A network card whose other end is a vhost-user back end; may be repeated")
      ->type_name("vhost-user:PATH[,mac=MAC]")
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  verb->add_option(
          "--console", arguments->consoles,
          "Where ttyS0 goes: stdio, pty, socket:PATH (listens), file:PATH or none. Given twice, the second is hvc0")
      ->type_name("KIND")
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  verb->add_flag("--testdev", arguments->test_devices,
                 "Add the devices of test kernels: debug-exit at port 0xf4, pc-testdev");
  verb->add_flag("--no-reboot", arguments->no_reboot, "End the VM when the guest asks for a reset, with status 3");
  verb->add_option("--trace", arguments->trace,
                   "Log what the software CPU does: exits, entries, exceptions, interrupts, blocks, instructions, registers, "
                   "msrs, io; narrowed by "
                   "level=1|2 and rip=FIRST-LAST (hexadecimal); to file=PATH instead of standard error")
      ->type_name("KIND[,...]");
  verb->add_option("--stats", arguments->stats, "At the end, write figures about the run as JSON; - is standard output")
      ->type_name("FILE|-");
  verb->footer(kFooter);
  verb->callback([arguments, &status] { status = run(*arguments); });
}

} // namespace abyme::cli
