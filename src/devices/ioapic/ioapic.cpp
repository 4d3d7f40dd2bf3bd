#include "devices/ioapic/ioapic.hpp"

namespace abyme {
namespace {

constexpr u64 kWindowSize = 0x1000;
constexpr u64 kSelect = 0x00, kData = 0x10, kEoi = 0x40;
constexpr u8 kIdRegister = 0, kVersionRegister = 1, kArbitrationRegister = 2, kFirstRedirection = 0x10;
constexpr u32 kVersion = (IoApic::kPins - 1) << 16 | 0x20;

// Redirection entry (82093AA §3.2.4).
constexpr u64 kVector = 0xff;
constexpr u64 kDeliveryMode = 7 << 8;
constexpr u64 kLogical = 1 << 11;
constexpr u64 kRemoteIrr = 1 << 14;
constexpr u64 kLevel = 1 << 15;
constexpr u64 kMasked = 1 << 16;
constexpr u64 kReadOnly = kRemoteIrr | 1 << 12; // and delivery status
constexpr u64 kWritable = 0xff00'0000'0001'ffff & ~kReadOnly;
constexpr u64 kLowestPriority = 1 << 8;

// SDM 3A §11.11.
constexpr u64 kMessageAddress = 0xfee0'0000;
constexpr u64 kMessageLogical = 1 << 2, kMessageRedirect = 1 << 3;
constexpr u32 kMessageAssert = 1 << 14;

} // namespace

IoApic::IoApic(Bus &bus, InterruptSink &sink)
    : bus_(bus), sink_(sink), registers_(*this, &IoApic::read, &IoApic::write) {
  s_.redirection.fill(kMasked);
  bus_.add_mmio(kBase, kWindowSize, registers_);
}

IoApic::~IoApic() { bus_.remove_mmio(kBase, registers_); }

void IoApic::reset() {
  const u32 lines = s_.lines;
  s_ = {};
  s_.lines = lines;
  s_.redirection.fill(kMasked);
}

void IoApic::restore(const State &state) {
  s_ = state;
  s_.id &= 0xf;
  s_.lines &= (1u << kPins) - 1;
  for (u64 &entry : s_.redirection) entry &= kWritable | kRemoteIrr;
}

void IoApic::send(unsigned pin) {
  const u64 entry = s_.redirection[pin];
  const u64 mode = entry & kDeliveryMode;
  const u64 address = kMessageAddress | entry >> 56 << 12 | (entry & kLogical ? kMessageLogical : 0) |
                      (mode == kLowestPriority ? kMessageRedirect : 0);
  sink_.message(address, static_cast<u32>((entry & (kVector | kLevel)) | mode | kMessageAssert));
}

// A level is sent once and again after each EOI for as long as it is there.
void IoApic::send_if_level(unsigned pin) {
  u64 &entry = s_.redirection[pin];
  if (!(entry & kLevel) || entry & (kMasked | kRemoteIrr) || !asserted(pin)) return;
  entry |= kRemoteIrr;
  send(pin);
}

// An edge on a masked pin is ignored, not held (82093AA §3.2.4, interrupt mask).
void IoApic::set_pin(unsigned pin, bool level) {
  if (pin >= kPins) return;
  const bool rising = level && !asserted(pin);
  s_.lines = level ? s_.lines | 1u << pin : s_.lines & ~(1u << pin);
  if (rising && !(s_.redirection[pin] & (kLevel | kMasked))) send(pin);
  send_if_level(pin);
}

void IoApic::end_of_interrupt(u8 vector) {
  const auto guard = bus_.lock();
  finish(vector);
}

void IoApic::finish(u8 vector) {
  for (unsigned pin = 0; pin < kPins; ++pin) {
    u64 &entry = s_.redirection[pin];
    if (!(entry & kRemoteIrr) || (entry & kVector) != vector) continue;
    entry &= ~kRemoteIrr;
    send_if_level(pin);
  }
}

u32 IoApic::read_register() const {
  switch (s_.selected) {
  case kIdRegister:
  case kArbitrationRegister: return u32{s_.id} << 24;
  case kVersionRegister: return kVersion;
  default: break;
  }
  const unsigned pin = (s_.selected - kFirstRedirection) / 2u;
  if (s_.selected < kFirstRedirection || pin >= kPins) return ~0u;
  return static_cast<u32>(s_.redirection[pin] >> (s_.selected & 1) * 32);
}

void IoApic::write_register(u32 value) {
  if (s_.selected == kIdRegister) s_.id = value >> 24 & 0xf;
  const unsigned pin = (s_.selected - kFirstRedirection) / 2u;
  if (s_.selected >= kFirstRedirection && pin < kPins) write_redirection(pin, s_.selected & 1, value);
}

void IoApic::write_redirection(unsigned pin, bool high, u32 value) {
  u64 &entry = s_.redirection[pin];
  const u64 half = high ? 0xffff'ffff'0000'0000 : 0xffff'ffff;
  const u64 mask = kWritable & half;
  entry = (entry & ~mask) | ((high ? u64{value} << 32 : value) & mask);
  if (!(entry & kLevel)) entry &= ~kRemoteIrr; // remote IRR has no meaning for an edge; kernels end a level by this
  send_if_level(pin);
}

// Registers are dwords; a narrower read gets its part, a narrower write counts as the whole.
u64 IoApic::read(u64 offset, unsigned size) {
  const u64 within = offset & 3;
  u32 value = 0;
  if ((offset & ~3ull) == kSelect) value = s_.selected;
  if ((offset & ~3ull) == kData) value = read_register();
  return size > 4 ? value : value >> within * 8;
}

void IoApic::write(u64 offset, unsigned, u64 value) {
  switch (offset) {
  case kSelect: s_.selected = static_cast<u8>(value); break;
  case kData: write_register(static_cast<u32>(value)); break;
  case kEoi: finish(static_cast<u8>(value)); break;
  default: break; // reserved
  }
}

} // namespace abyme
