#include "devices/pci/pci_host.hpp"
#include "machine/acpi/aml.hpp"
#include "machine/acpi/tables.hpp"
#include "machine/memory_map.hpp"
#include "machine/ports.hpp"

namespace abyme::machine::acpi {
namespace {

using namespace aml;

constexpr u32 low32(Gpa at) { return static_cast<u32>(at.value); }

// INTA# of each slot to its GSI; our functions have no other pins (ACPI 6.4 §6.2.13).
Bytes pci_routing() {
  std::vector<Bytes> routes;
  for (unsigned slot = 1; slot < PciHost::kSlots; slot++) {
    const u64 any_function = slot << 16 | 0xFFFF;
    routes.push_back(package({integer(any_function), integer(0), integer(0), integer(PciHost::intx_gsi(slot))}));
  }
  return package(routes);
}

Bytes pci_root() {
  const u32 window_end = static_cast<u32>(kPciWindow.value + kPciWindowSize - 1);
  return device("PCI0", {
                            name("_HID", eisa_id("PNP0A08")),
                            name("_CID", eisa_id("PNP0A03")),
                            name("_UID", integer(0)),
                            name("_SEG", integer(0)),
                            name("_BBN", integer(0)),
                            name("_CRS", resources({
                                             bus_numbers(0, PciHost::kBuses - 1),
                                             io_ports(kPciConfigPort, 8),
                                             port_window(0, kPciConfigPort - 1),
                                             port_window(kPciConfigPort + 8, 0xFFFF),
                                             memory_window(low32(kPciWindow), window_end),
                                         })),
                            name("_PRT", pci_routing()),
                        });
}

// ECAM must be claimed by a motherboard device (PCI Firmware 3.2 §4.1.2).
Bytes motherboard() {
  return device("MBRD", {
                            name("_HID", eisa_id("PNP0C02")),
                            name("_UID", integer(0)),
                            name("_CRS", resources({
                                             fixed_memory(low32(kEcam), static_cast<u32>(kEcamSize)),
                                             io_ports(kPmEventPort, 12),
                                         })),
                        });
}

Bytes serial_port() {
  return device("COM1", {
                            name("_HID", eisa_id("PNP0501")),
                            name("_UID", integer(0)),
                            name("_CRS", resources({io_ports(kSerialPort, 8), irq(kSerialIrq)})),
                        });
}

Bytes real_time_clock() {
  return device("RTC_", {
                            name("_HID", eisa_id("PNP0B00")),
                            name("_CRS", resources({io_ports(kRtcPort, 2), irq(kRtcIrq)})),
                        });
}

Bytes firmware_configuration() {
  constexpr u64 kPresentWorking = 0xB; // _STA: present, enabled, working; not shown to users
  return device("FWCF", {
                            name("_HID", text("QEMU0002")),
                            name("_STA", integer(kPresentWorking)),
                            name("_CRS", resources({io_ports(kFwCfgPort, 12)})),
                        });
}

Bytes processor(unsigned index) {
  return device(fmt::format("CP{:02X}", index), {name("_HID", text("ACPI0007")), name("_UID", integer(index))});
}

Bytes soft_off() {
  return name("_S5_", package({integer(kSleepTypeOff), integer(kSleepTypeOff), integer(0), integer(0)}));
}

} // namespace

Bytes make_dsdt(const Pc &pc) {
  Bytes body = soft_off();
  append(body, scope("_SB_", {pci_root(), motherboard(), serial_port(), real_time_clock(), firmware_configuration()}));
  for (unsigned i = 0; i < pc.cpus; i++) append(body, scope("_SB_", {processor(i)}));
  return make_table("DSDT", 2, body);
}

} // namespace abyme::machine::acpi
