#include "devices/pci/pci_host.hpp"

namespace abyme {
namespace {

constexpr u16 kAddressPort = 0xcf8;
constexpr unsigned kPorts = 8; // CONFIG_ADDRESS and CONFIG_DATA
constexpr u64 kResetOffset = 1;
constexpr u64 kDataOffset = 4;
constexpr u32 kAddressEnable = 1u << 31;
constexpr u32 kAddressWritable = 0x80ff'fffc;

// The memory controller of a Q35 chipset, which kernels know and need no driver for.
constexpr PciIdentity kBridge{.vendor = 0x8086, .device = 0x29c0, .class_code = 0x060000};

constexpr u32 ones(unsigned size) { return size >= 4 ? ~0u : (1u << size * 8) - 1; }

} // namespace

PciHost::PciHost(Bus &bus, InterruptSink &sink, RegisterBlock &reset_control)
    : bus_(bus), reset_control_(reset_control), bridge_(bus, sink, kBridge),
      ports_(*this, &PciHost::read_ports, &PciHost::write_ports),
      ecam_(*this, &PciHost::read_ecam, &PciHost::write_ecam) {
  slots_[0] = &bridge_;
  bus_.add_ports(kAddressPort, kPorts, ports_);
  bus_.add_mmio(kEcam, u64{kBuses} << 20, ecam_);
}

PciHost::~PciHost() {
  bus_.remove_ports(kAddressPort, ports_);
  bus_.remove_mmio(kEcam, ecam_);
}

Result<void> PciHost::attach(unsigned slot, PciFunction &function, IrqLine &intx) {
  if (slot == 0 || slot >= kSlots)
    return fail("PCI slot {}: not there; slots for devices are 1 to {}", slot, kSlots - 1);
  if (slots_[slot] != nullptr) return fail("PCI slot {}: holds a device already", slot);
  u64 next = next_address_;
  std::array<u64, PciFunction::kBars> addresses{};
  for (unsigned i = 0; i < PciFunction::kBars; ++i) {
    const u64 size = function.bar_size(i);
    if (size == 0) continue;
    addresses[i] = (next + size - 1) & ~(size - 1);
    next = addresses[i] + size;
    if (next > kWindowEnd.value)
      return fail("PCI slot {}: BAR {} of {:#x} bytes does not fit into what is left of the memory window {:#x}-{:#x}",
                  slot, i, size, kWindowStart.value, kWindowEnd.value - 1);
  }
  next_address_ = next;
  slots_[slot] = &function;
  for (unsigned i = 0; i < PciFunction::kBars; ++i)
    if (function.bar_size(i) != 0) function.assign_bar(i, Gpa(addresses[i]));
  function.connect_intx(intx, static_cast<u8>(intx_gsi(slot)));
  return {};
}

void PciHost::reset() {
  address_ = 0;
  for (PciFunction *function : slots_)
    if (function != nullptr) function->reset();
}

void PciHost::restore(const State &state) {
  address_ = state.address & kAddressWritable;
  bridge_.restore_function(state.bridge);
}

PciFunction *PciHost::addressed() const {
  if (!(address_ & kAddressEnable)) return nullptr;
  return at(address_ >> 16 & 0xff, address_ >> 11 & 31, address_ >> 8 & 7);
}

// Only a whole dword is CONFIG_ADDRESS; narrower accesses go on to the ports behind it (PCI 3.0 §3.2.2.3.2).
u64 PciHost::read_ports(u64 offset, unsigned size) {
  if (offset == 0 && size == 4) return address_;
  if (offset == kResetOffset && size == 1) return reset_control_.read(0, 1);
  PciFunction *function = addressed();
  if (offset < kDataOffset || function == nullptr) return ones(size);
  return function->config_read((address_ & 0xfc) + static_cast<unsigned>(offset - kDataOffset), size);
}

void PciHost::write_ports(u64 offset, unsigned size, u64 value) {
  if (offset == 0 && size == 4) address_ = static_cast<u32>(value) & kAddressWritable;
  if (offset == kResetOffset && size == 1) reset_control_.write(0, 1, value);
  PciFunction *function = addressed();
  if (offset < kDataOffset || function == nullptr) return;
  function->config_write((address_ & 0xfc) + static_cast<unsigned>(offset - kDataOffset), size,
                         static_cast<u32>(value));
}

u64 PciHost::read_ecam(u64 offset, unsigned size) {
  if (size == 8) return read_ecam(offset, 4) | read_ecam(offset + 4, 4) << 32;
  PciFunction *function = at(offset >> 20 & 0xff, offset >> 15 & 31, offset >> 12 & 7);
  return function == nullptr ? ones(size) : function->config_read(offset & 0xfff, size);
}

void PciHost::write_ecam(u64 offset, unsigned size, u64 value) {
  if (size == 8) {
    write_ecam(offset, 4, value & 0xffff'ffff);
    write_ecam(offset + 4, 4, value >> 32);
    return;
  }
  PciFunction *function = at(offset >> 20 & 0xff, offset >> 15 & 31, offset >> 12 & 7);
  if (function != nullptr) function->config_write(offset & 0xfff, size, static_cast<u32>(value));
}

} // namespace abyme
