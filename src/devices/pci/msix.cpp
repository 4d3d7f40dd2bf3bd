#include "devices/pci/msix.hpp"
#include <algorithm>
#include <bit>

namespace abyme {
namespace {

constexpr u64 kEntrySize = 16;
enum EntryField : unsigned { kAddressLow = 0, kAddressHigh = 4, kData = 8, kControl = 12 };

constexpr u64 dword_mask(unsigned size) { return size >= 4 ? 0xffff'ffff : (1ull << size * 8) - 1; }

} // namespace

Msix::Msix(InterruptSink &sink, unsigned vectors) : sink_(sink), entries_(std::clamp(vectors, 1u, kMaxVectors)) {}

// The PBA has a page of its own, so that a hypervisor inside can pass the table's page and this one on separately.
u32 Msix::pba_offset() const { return static_cast<u32>((entries_.size() * kEntrySize + kPageSize - 1) & kPageMask); }

u64 Msix::bar_size() const {
  const u64 pba_bytes = (entries_.size() + 63) / 64 * 8;
  return std::bit_ceil(pba_offset() + std::max(pba_bytes, kPageSize));
}

void Msix::send_if_pending(Entry &entry) {
  if (!entry.pending || !deliverable(entry)) return;
  entry.pending = false;
  sink_.message(entry.message.address, entry.message.data);
}

void Msix::notify(unsigned vector) {
  const std::lock_guard guard(mutex_);
  if (!enabled_ || vector >= entries_.size()) return;
  entries_[vector].pending = true;
  send_if_pending(entries_[vector]);
}

std::optional<MsiMessage> Msix::message(unsigned vector) const {
  const std::lock_guard guard(mutex_);
  if (vector >= entries_.size() || !deliverable(entries_[vector])) return std::nullopt;
  return entries_[vector].message;
}

void Msix::configure(bool enabled, bool function_masked) {
  {
    const std::lock_guard guard(mutex_);
    if (enabled == enabled_ && function_masked == function_masked_) return;
    enabled_ = enabled;
    function_masked_ = function_masked;
    for (Entry &entry : entries_) send_if_pending(entry);
  }
  for (unsigned vector = 0; vector < vectors(); ++vector) changed(vector);
}

void Msix::reset() {
  configure(false, false);
  const std::lock_guard guard(mutex_);
  std::ranges::fill(entries_, Entry{});
}

u32 Msix::read_dword(u64 offset) const {
  const u64 vector = offset / kEntrySize;
  if (vector < entries_.size()) {
    const Entry &entry = entries_[vector];
    switch (offset % kEntrySize) {
    case kAddressLow: return static_cast<u32>(entry.message.address);
    case kAddressHigh: return static_cast<u32>(entry.message.address >> 32);
    case kData: return entry.message.data;
    default: return entry.control;
    }
  }
  u32 bits = 0;
  if (offset < pba_offset()) return bits;
  const u64 first = (offset - pba_offset()) * 8;
  for (u64 i = 0; i < 32 && first + i < entries_.size(); ++i) bits |= u32{entries_[first + i].pending} << i;
  return bits;
}

void Msix::write_dword(u64 offset, u32 value) {
  Entry &entry = entries_[offset / kEntrySize];
  u64 &address = entry.message.address;
  switch (offset % kEntrySize) {
  case kAddressLow: address = (address & ~0xffff'ffffull) | (value & ~3u); break;
  case kAddressHigh: address = (address & 0xffff'ffff) | u64{value} << 32; break;
  case kData: entry.message.data = value; break;
  default: entry.control = value & kMasked; break;
  }
  send_if_pending(entry);
}

// Drivers use whole dwords and qwords (PCI 3.0 §6.8.2); the rest is put together from the dwords that the access
// touches.
u64 Msix::read(u64 offset, unsigned size) {
  const std::lock_guard guard(mutex_);
  const u64 base = offset & ~3ull;
  u128 wide = 0;
  for (unsigned i = 0; i < 3; ++i)
    if (base + i * 4 < offset + size) wide |= u128{read_dword(base + i * 4)} << i * 32;
  return static_cast<u64>(wide >> (offset - base) * 8);
}

void Msix::write(u64 offset, unsigned size, u64 value) {
  const u64 end = std::min<u64>(offset + size, entries_.size() * kEntrySize); // the PBA is read-only
  for (u64 at = offset; at < end;) {
    const u64 base = at & ~3ull;
    const unsigned bytes = static_cast<unsigned>(std::min(end, base + 4) - at);
    const unsigned shift = static_cast<unsigned>(at - base) * 8;
    const u64 mask = dword_mask(bytes) << shift;
    {
      const std::lock_guard guard(mutex_);
      const u64 kept = read_dword(base) & ~mask;
      write_dword(base, static_cast<u32>(kept | ((value >> (at - offset) * 8) << shift & mask)));
    }
    changed(static_cast<unsigned>(base / kEntrySize));
    at += bytes;
  }
}

Msix::State Msix::save() const {
  const std::lock_guard guard(mutex_);
  return {entries_};
}

void Msix::restore(const State &state) {
  {
    const std::lock_guard guard(mutex_);
    std::copy_n(state.entries.begin(), std::min(state.entries.size(), entries_.size()), entries_.begin());
  }
  for (unsigned vector = 0; vector < vectors(); ++vector) changed(vector);
}

} // namespace abyme
