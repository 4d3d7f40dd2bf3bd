#include "machine/machine.hpp"
#include "machine/acpi/tables.hpp"
#include "machine/input_file.hpp"
#include "machine/memory_map.hpp"
#include <pthread.h>

namespace abyme::machine {

Result<std::unique_ptr<Machine>> Machine::build(const MachineConfig &config, const EngineChoice &choice,
                                                const HostSide &host) {
  auto machine = std::unique_ptr<Machine>(new Machine(host));
  if (auto set = machine->set_up(config, choice); !set) return std::unexpected(set.error());
  return machine;
}

Result<void> Machine::set_up(const MachineConfig &config, const EngineChoice &choice) {
  cpus_ = config.cpus;
  auto memory = GuestMemory::create(config.memory);
  if (!memory) return std::unexpected(memory.error());
  memory_ = std::move(*memory);
  pc_ = std::make_unique<PcDevices>(
      config, PcDevices::Surroundings{bus_, interrupts_, host_.timers, *memory_, *this, host_.serial});
  auto pci = PciDevices::create(config, PciDevices::Surroundings{bus_, interrupts_, *memory_, pc_->irqs(),
                                                                 pc_->reset_control(), host_.hypervisor});
  if (!pci) return std::unexpected(pci.error());
  pci_ = std::move(*pci);
  const EngineConfig parts{.cpus = config.cpus,
                           .memory = *memory_,
                           .profile = choice.profile,
                           .io = bus_,
                           .pic = pc_->pic(),
                           .ioapic = pc_->ioapic(),
                           .timers = host_.timers};
  auto engine = make_engine(choice, parts, config);
  if (!engine) return std::unexpected(engine.error());
  engine_ = std::move(*engine);
  interrupts_.connect(*engine_);
  pci_->connect(*engine_);
  return load_kernel(config);
}

Result<void> Machine::load_kernel(const MachineConfig &config) {
  const Bytes tables = acpi::make_tables({.cpus = config.cpus}, kTablesStart);
  if (!memory_->write(kTablesStart, tables.data(), tables.size()))
    return fail("the guest has no RAM for its ACPI tables");
  const auto kernel = InputFile::open("--kernel", config.kernel);
  if (!kernel) return std::unexpected(kernel.error());
  boot::BootFiles files{.kernel_name = config.kernel,
                        .kernel = (*kernel)->bytes(),
                        .initrd_name = config.initrd.value_or(""),
                        .initrd = std::nullopt,
                        .command_line = config.command_line,
                        .rsdp = kTablesStart};
  std::unique_ptr<InputFile> initrd;
  if (config.initrd) {
    auto opened = InputFile::open("--initrd", *config.initrd);
    if (!opened) return std::unexpected(opened.error());
    initrd = std::move(*opened);
    files.initrd = initrd->bytes();
  }
  const auto state = boot::load(files, *memory_);
  if (!state) return std::unexpected(state.error());
  engine_->vcpu(0).set_state(*state);
  return {};
}

void Machine::run_vcpu(unsigned index) {
  pthread_setname_np(pthread_self(), fmt::format("vcpu{}", index).c_str());
  const VcpuExit exit = engine_->vcpu(index).run();
  if (std::holds_alternative<TripleFault>(exit))
    end({.why = Ended::Why::TripleFault, .message = fmt::format("vCPU {} shut down", index)});
  if (const auto *error = std::get_if<InternalError>(&exit))
    end({.why = Ended::Why::InternalError, .message = fmt::format("vCPU {}: {}", index, error->message)});
}

Ended Machine::run() {
  for (unsigned i = 0; i < cpus_; i++) vcpu_threads_.emplace_back([this, i] { run_vcpu(i); });
  host_.loop.run();
  engine_->stop();
  vcpu_threads_.clear();
  const std::lock_guard lock(end_mutex_);
  return *ended_;
}

void Machine::end(Ended ended) {
  const std::lock_guard lock(end_mutex_);
  if (ended_) return;
  ended_ = std::move(ended);
  if (engine_) engine_->stop();
  host_.loop.stop();
}

u64 Machine::instructions() const {
  u64 sum = 0;
  for (unsigned i = 0; i < cpus_; i++) sum += engine_->vcpu(i).instructions();
  return sum;
}

Machine::~Machine() {
  host_.serial.connect({});
  if (host_.hypervisor) host_.hypervisor->connect({});
  if (pci_) pci_->disconnect();
}

} // namespace abyme::machine
