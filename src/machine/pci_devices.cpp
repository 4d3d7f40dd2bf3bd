#include "machine/pci_devices.hpp"
#include "devices/vhost_user_net/net.hpp"
#include "devices/virtio_blk/blk.hpp"
#include "devices/virtio_console/console.hpp"
#include "devices/virtio_rng/rng.hpp"

namespace abyme::machine {

Result<std::unique_ptr<PciDevices>> PciDevices::create(const MachineConfig &config, const Surroundings &around) {
  auto devices = std::unique_ptr<PciDevices>(new PciDevices(around));
  if (auto added = devices->add_all(config); !added) return std::unexpected(added.error());
  return devices;
}

Result<void> PciDevices::add_all(const MachineConfig &config) {
  if (auto added = add(std::make_unique<virtio::Rng>()); !added) return added;
  if (around_.hypervisor)
    if (auto added = add_console(); !added) return added;
  for (const auto &disk : config.disks) {
    auto blk = virtio::Blk::open({.path = disk.path, .read_only = disk.read_only});
    if (!blk) return std::unexpected(blk.error());
    if (auto added = add(std::move(*blk)); !added) return added;
  }
  for (const auto &net : config.nets) {
    auto card = virtio::VhostUserNet::open({.socket = net.socket, .mac = net.mac});
    if (!card) return std::unexpected(card.error());
    if (auto added = add(std::move(*card)); !added) return added;
  }
  return {};
}

Result<void> PciDevices::add_console() {
  Console &host = *around_.hypervisor;
  auto console = std::make_unique<virtio::Console>(virtio::ConsoleConfig{
      .output = [&host](std::span<const u8> bytes) { host.write(bytes); },
      .input_room = [&host] { host.input_room(); },
  });
  host.connect([guest = console.get()](ByteView bytes) { return guest->receive(bytes); });
  return add(std::move(console));
}

Result<void> PciDevices::add(std::unique_ptr<virtio::Device> device) {
  const unsigned slot = static_cast<unsigned>(functions_.size()) + 1; // slot 0 is the host bridge's
  if (slot >= PciHost::kSlots)
    return fail("too many disks and network cards: {} devices fit on the PCI bus", PciHost::kSlots - 1);
  auto function = virtio::VirtioPci::create(around_.bus, around_.interrupts, around_.memory, std::move(device));
  if (!function) return std::unexpected(function.error());
  if (auto attached = host_.attach(slot, **function, around_.irqs.gsi(PciHost::intx_gsi(slot))); !attached)
    return attached;
  functions_.push_back(std::move(*function));
  return {};
}

void PciDevices::connect(Engine &engine) {
  for (auto &function : functions_) function->connect(engine);
}

void PciDevices::disconnect() {
  for (auto &function : functions_) function->disconnect();
}

} // namespace abyme::machine
