#include "bus/bus.hpp"
#include <algorithm>

namespace abyme {
namespace {

constexpr u64 mask(unsigned size) { return size >= 8 ? ~0ull : (1ull << size * 8) - 1; }

} // namespace

void Bus::Space::add(u64 first, u64 last, RegisterBlock &block) {
  claims.push_back({first, last, first, &block});
  rebuild();
}

void Bus::Space::remove(u64 first, RegisterBlock &block) {
  std::erase_if(claims, [&](const Range &r) { return r.first == first && r.block == &block; });
  rebuild();
}

// Lays the claims down oldest first; each later one fills only the gaps that the older ones left.
void Bus::Space::rebuild() {
  view.clear();
  for (const Range &claim : claims) {
    std::vector<Range> pieces;
    u64 at = claim.first;
    bool open = true; // whether [at, claim.last] is still to be placed
    for (const Range &taken : view) {
      if (taken.last < at) continue;
      if (taken.first > claim.last) break;
      if (taken.first > at) pieces.push_back({at, taken.first - 1, claim.origin, claim.block});
      open = taken.last < claim.last;
      if (!open) break;
      at = taken.last + 1;
    }
    if (open) pieces.push_back({at, claim.last, claim.origin, claim.block});
    view.insert(view.end(), pieces.begin(), pieces.end());
    std::ranges::sort(view, {}, &Range::first);
  }
}

const Bus::Range *Bus::Space::find(u64 at) const {
  auto after = std::ranges::upper_bound(view, at, {}, &Range::first);
  if (after == view.begin()) return nullptr;
  --after;
  return at <= after->last ? &*after : nullptr;
}

Bus::Bus() : port_table_(std::make_unique<PortTable>()) { port_table_->fill(0); }

void Bus::rebuild_port_table() {
  port_table_->fill(0);
  for (size_t i = 0; i < ports_.view.size(); ++i)
    for (u64 port = ports_.view[i].first; port <= ports_.view[i].last; ++port)
      (*port_table_)[port] = static_cast<u16>(i + 1);
}

void Bus::add_ports(u16 base, u32 count, RegisterBlock &block) {
  if (count == 0) return;
  ports_.add(base, std::min<u64>(0xffff, u64{base} + count - 1), block);
  rebuild_port_table();
}

void Bus::remove_ports(u16 base, RegisterBlock &block) {
  ports_.remove(base, block);
  rebuild_port_table();
}

void Bus::add_mmio(Gpa start, u64 size, RegisterBlock &block) {
  if (size == 0) return;
  const u64 last = start.value + (size - 1);
  mmio_.add(start.value, last < start.value ? ~0ull : last, block);
}

void Bus::remove_mmio(Gpa start, RegisterBlock &block) { mmio_.remove(start.value, block); }

u64 Bus::read(bool is_port, u64 at, unsigned size) {
  const auto guard = lock();
  const Range *range = find(is_port, at);
  if (range != nullptr && size - 1 <= range->last - at)
    return range->block->read(at - range->origin, size) & mask(size);
  u64 value = 0;
  for (unsigned i = 0; i < size; ++i) {
    const u64 byte_at = is_port ? (at + i) & 0xffff : at + i;
    const Range *one = find(is_port, byte_at);
    const u64 byte = one == nullptr ? 0xff : one->block->read(byte_at - one->origin, 1) & 0xff;
    value |= byte << i * 8;
  }
  return value;
}

void Bus::write(bool is_port, u64 at, unsigned size, u64 value) {
  const auto guard = lock();
  const Range *range = find(is_port, at);
  if (range != nullptr && size - 1 <= range->last - at) {
    range->block->write(at - range->origin, size, value & mask(size));
    return;
  }
  for (unsigned i = 0; i < size; ++i) {
    const u64 byte_at = is_port ? (at + i) & 0xffff : at + i;
    const Range *one = find(is_port, byte_at);
    if (one != nullptr) one->block->write(byte_at - one->origin, 1, value >> i * 8 & 0xff);
  }
}

u32 Bus::port_read(u16 port, unsigned size) { return static_cast<u32>(read(true, port, size)); }
void Bus::port_write(u16 port, unsigned size, u32 value) { write(true, port, size, value); }
u64 Bus::mmio_read(Gpa at, unsigned size) { return read(false, at.value, size); }
void Bus::mmio_write(Gpa at, unsigned size, u64 value) { write(false, at.value, size, value); }

} // namespace abyme
