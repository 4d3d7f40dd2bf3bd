#include "devices/pci/pci_function.hpp"
#include "devices/pci/config_space.hpp"
#include <algorithm>

namespace abyme {
namespace {

using namespace pci;

constexpr unsigned bar_register(unsigned index) { return kBar0 + index * 4; }
constexpr u32 bar_flags(BarKind kind) {
  switch (kind) {
  case BarKind::Memory32: return 0;
  case BarKind::Memory64: return kBarMemory64;
  case BarKind::Memory64Prefetchable: return kBarMemory64 | kBarPrefetchable;
  }
  return 0;
}

} // namespace

PciFunction::PciFunction(Bus &bus, InterruptSink &sink, const PciIdentity &identity) : bus_(bus), sink_(sink) {
  store(kVendorId, 2, identity.vendor);
  store(kDeviceId, 2, identity.device);
  store(kClassRevision, 4, identity.class_code << 8 | identity.revision);
  store(kSubsystemVendor, 2, identity.subsystem_vendor);
  store(kSubsystemId, 2, identity.subsystem);
  const auto allow = [this](unsigned offset, u16 bits) {
    writable_[offset] = static_cast<u8>(bits);
    writable_[offset + 1] = static_cast<u8>(bits >> 8);
  };
  allow(kCommand, kCommandMemory | kCommandMaster | kCommandInterruptDisable);
  allow(kCacheLineSize, 0x00ff);
  allow(kInterruptLine, 0x00ff);
  initial_ = config_;
}

PciFunction::~PciFunction() {
  for (Bar &bar : bars_)
    if (bar.mapped) bus_.remove_mmio(*bar.mapped, *bar.block);
}

u32 PciFunction::load(unsigned offset, unsigned size) const {
  u32 value = 0;
  for (unsigned i = 0; i < size; ++i) value |= u32{config_[offset + i]} << i * 8;
  return value;
}

void PciFunction::store(unsigned offset, unsigned size, u32 value) {
  for (unsigned i = 0; i < size; ++i) config_[offset + i] = static_cast<u8>(value >> i * 8);
}

const PciFunction::Overlay *PciFunction::overlay_at(unsigned offset, unsigned size) const {
  const auto found = std::ranges::find_if(
      overlays_, [&](const Overlay &o) { return offset >= o.offset && offset + size <= o.offset + o.size; });
  return found == overlays_.end() ? nullptr : &*found;
}

u32 PciFunction::config_read(unsigned offset, unsigned size) {
  if (size > 4 || offset > kConfigSize - size) return ~0u;
  if (const Overlay *o = overlay_at(offset, size)) return static_cast<u32>(o->block->read(offset - o->offset, size));
  return load(offset, size);
}

void PciFunction::config_write(unsigned offset, unsigned size, u32 value) {
  if (size > 4 || offset > kConfigSize - size) return;
  if (const Overlay *o = overlay_at(offset, size)) {
    o->block->write(offset - o->offset, size, value);
    return;
  }
  for (unsigned i = 0; i < size; ++i) {
    const u8 mask = writable_[offset + i];
    config_[offset + i] = static_cast<u8>((config_[offset + i] & ~mask) | (value >> i * 8 & mask));
  }
  apply_config();
}

// Puts into effect what the registers say now.
void PciFunction::apply_config() {
  if (msix_) {
    const u16 control = static_cast<u16>(load(msix_capability_ + 2, 2));
    msix_enabled_ = control & kMsixEnable;
    msix_->configure((control & kMsixEnable) && bus_master(), control & kMsixFunctionMask);
  }
  map_bars();
  drive_intx();
}

void PciFunction::add_bar(unsigned index, BarKind kind, u64 size, RegisterBlock &block) {
  bars_[index] = {.kind = kind, .size = size, .assigned = 0, .block = &block, .mapped = {}};
  const bool wide = kind != BarKind::Memory32;
  const u64 mask = ~(size - 1);
  for (unsigned i = 0; i < (wide ? 8 : 4); ++i) writable_[bar_register(index) + i] = static_cast<u8>(mask >> i * 8);
  writable_[bar_register(index)] &= 0xf0;
  store_bar(index, 0);
  initial_ = config_;
}

void PciFunction::store_bar(unsigned index, u64 address) {
  store(bar_register(index), 4, static_cast<u32>(address) | bar_flags(bars_[index].kind));
  if (bars_[index].kind != BarKind::Memory32) store(bar_register(index) + 4, 4, static_cast<u32>(address >> 32));
}

Gpa PciFunction::bar_address(unsigned index) const {
  u64 address = load(bar_register(index), 4) & ~0xfu;
  if (bars_[index].kind != BarKind::Memory32) address |= u64{load(bar_register(index) + 4, 4)} << 32;
  return Gpa(address);
}

void PciFunction::assign_bar(unsigned index, Gpa address) {
  store_bar(index, address.value);
  // What firmware would have done before it hands over.
  store(kCommand, 2, command() | kCommandMemory);
  initial_ = config_;
  apply_config();
}

void PciFunction::map_bars() {
  for (unsigned index = 0; index < kBars; ++index) {
    Bar &bar = bars_[index];
    if (bar.size == 0) continue;
    std::optional<Gpa> wanted;
    if (command() & kCommandMemory) wanted = bar_address(index);
    if (wanted == bar.mapped) continue;
    if (bar.mapped) bus_.remove_mmio(*bar.mapped, *bar.block);
    if (wanted) bus_.add_mmio(*wanted, bar.size, *bar.block);
    bar.mapped = wanted;
    bars_changed();
  }
}

u8 PciFunction::add_capability(u8 id, std::span<const u8> body, std::span<const u8> writable) {
  const unsigned at = capability_end_;
  capability_end_ = (at + 2 + static_cast<unsigned>(body.size()) + 3) & ~3u;
  config_[at] = id;
  config_[at + 1] = 0;
  std::ranges::copy(body, config_.begin() + at + 2);
  std::ranges::copy(writable, writable_.begin() + at + 2);
  config_[last_capability_ == 0 ? unsigned{kCapabilities} : last_capability_ + 1] = static_cast<u8>(at);
  config_[kStatus] |= kStatusCapabilities;
  last_capability_ = at;
  initial_ = config_;
  return static_cast<u8>(at);
}

void PciFunction::overlay_config(u8 offset, u8 size, RegisterBlock &block) {
  overlays_.push_back({offset, size, &block});
}

void PciFunction::add_msix(unsigned bar, unsigned vectors) {
  msix_.emplace(sink_, vectors);
  const u32 table = bar, pba = msix_->pba_offset() | bar;
  const u16 last = static_cast<u16>(msix_->vectors() - 1);
  std::array<u8, 10> body{static_cast<u8>(last), static_cast<u8>(last >> 8)};
  for (unsigned i = 0; i < 4; ++i) {
    body[2 + i] = static_cast<u8>(table >> i * 8);
    body[6 + i] = static_cast<u8>(pba >> i * 8);
  }
  const std::array<u8, 10> writable{0, (kMsixEnable | kMsixFunctionMask) >> 8};
  msix_capability_ = add_capability(kCapabilityMsix, body, writable);
  add_bar(bar, BarKind::Memory32, msix_->bar_size(), *msix_);
}

bool PciFunction::bus_master() const { return command() & kCommandMaster; }

bool PciFunction::notify(unsigned vector) {
  if (!msix_enabled_) return false;
  msix_->notify(vector);
  return true;
}

void PciFunction::connect_intx(IrqLine &line, u8 interrupt_line) {
  intx_line_ = &line;
  store(kInterruptLine, 1, interrupt_line);
  store(kInterruptPin, 1, 1); // INTA#
  initial_ = config_;
}

void PciFunction::set_intx(bool level) {
  intx_ = level;
  drive_intx();
}

void PciFunction::drive_intx() {
  const u8 status = static_cast<u8>(load(kStatus, 1) & ~kStatusInterrupt);
  store(kStatus, 1, status | (intx_ ? kStatusInterrupt : 0));
  if (intx_line_ != nullptr) intx_line_->set(intx_ && !msix_enabled() && !(command() & kCommandInterruptDisable));
}

void PciFunction::reset() {
  config_ = initial_;
  intx_ = false;
  if (msix_) msix_->reset();
  apply_config();
  reset_device();
}

PciFunction::State PciFunction::save_function() const {
  return {.config = config_, .intx = intx_, .msix = msix_ ? msix_->save() : Msix::State{}};
}

// Only what a guest can write is taken over: identity and capabilities stay those of this function.
void PciFunction::restore_function(const State &state) {
  for (unsigned i = 0; i < kConfigSize; ++i)
    config_[i] = static_cast<u8>((config_[i] & ~writable_[i]) | (state.config[i] & writable_[i]));
  intx_ = state.intx;
  if (msix_) msix_->restore(state.msix);
  apply_config();
}

} // namespace abyme
