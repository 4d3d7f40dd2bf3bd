#pragma once
#include "devices/irq_router/irq_router.hpp"
#include "devices/pci/pci_host.hpp"
#include "devices/virtio/pci.hpp"
#include "machine/config.hpp"

namespace abyme::virtio {
class Console;
}

namespace abyme::machine {

// PCI bus 0 and what is on it, in slots that depend on the configuration alone.
class PciDevices {
public:
  struct Surroundings {
    Bus &bus;
    InterruptSink &interrupts;
    GuestMemory &memory;
    IrqRouter &irqs;
    RegisterBlock &reset_control;
    Console *hypervisor; // where hvc0 goes
  };
  [[nodiscard]] static Result<std::unique_ptr<PciDevices>> create(const MachineConfig &config,
                                                                  const Surroundings &around);
  // Lets the engine take kicks and interrupts for itself; before any vCPU runs, and after the last one has stopped.
  void connect(Engine &engine);
  void disconnect();

private:
  explicit PciDevices(const Surroundings &around)
      : around_(around), host_(around.bus, around.interrupts, around.reset_control) {}
  [[nodiscard]] Result<void> add_all(const MachineConfig &config);
  [[nodiscard]] Result<void> add(std::unique_ptr<virtio::Device> device);
  [[nodiscard]] Result<void> add_console();

  Surroundings around_;
  PciHost host_;
  std::vector<std::unique_ptr<virtio::VirtioPci>> functions_;
};

} // namespace abyme::machine
