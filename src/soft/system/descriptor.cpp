#include "soft/system/descriptor.hpp"
#include "soft/mmu/access.hpp"

namespace abyme::soft::system {

u64 Descriptor::base() const {
  return (raw >> 16 & 0xFFFFFF) | (raw >> 56) << 24 | (is_system() ? (upper & 0xFFFFFFFF) << 32 : 0);
}

u32 Descriptor::limit() const {
  u32 limit = (raw & 0xFFFF) | (raw >> 32 & 0xF0000);
  return raw >> 55 & 1 ? limit << 12 | 0xFFF : limit;
}

x86::Segment Descriptor::segment(u16 selector) const {
  return {base(), limit(), static_cast<u32>(raw >> 40 & 0xF0FF), selector};
}

u64 Descriptor::gate_offset() const {
  u64 low = raw & 0xFFFF;
  return type() & 8 ? low | (raw >> 48) << 16 | upper << 32 : low;
}

bool fail(Cpu &cpu, u8 vector, u32 error) {
  (void)raise(cpu, vector, error);
  return false;
}

bool canonical(const Cpu &cpu, u64 address) {
  unsigned unused = cpu.cr4 & x86::cr4::LA57 ? 7 : 16;
  return static_cast<u64>(static_cast<i64>(address << unused) >> unused) == address;
}

namespace {

struct Place {
  u64 linear;
  bool inside;
};

Place place_of(const Cpu &cpu, u16 selector, unsigned size) {
  u64 offset = selector & ~7u;
  bool local = selector & 4;
  if (local && !cpu.ldtr.usable()) return {0, false};
  u64 base = local ? cpu.ldtr.base : cpu.gdtr.base;
  u64 limit = local ? cpu.ldtr.limit : cpu.gdtr.limit;
  u64 linear = base + offset;
  return {cpu.long_mode() ? linear : linear & 0xFFFFFFFF, offset + size - 1 <= limit};
}

bool write_type_byte(Cpu &cpu, Descriptor &d, u64 raw) {
  if (!write_linear(cpu, d.linear + 5, static_cast<u8>(raw >> 40), As::Supervisor)) return false;
  d.raw = raw;
  return true;
}

} // namespace

bool peek_descriptor(Cpu &cpu, u16 selector, Descriptor &d, bool &inside) {
  Place place = place_of(cpu, selector, 8);
  inside = place.inside && !is_null(selector);
  if (!inside) return true;
  d = {0, 0, place.linear};
  if (!read_linear(cpu, place.linear, d.raw, As::Supervisor)) return false;
  if (!cpu.long_mode() || !d.is_system()) return true;
  // Only 16-byte descriptors are system ones here; one whose second half is missing or wrong is as good as absent.
  inside = place_of(cpu, selector, 16).inside;
  return !inside || read_linear(cpu, place.linear + 8, d.upper, As::Supervisor);
}

bool read_descriptor(Cpu &cpu, u16 selector, Descriptor &d, u8 vector, u32 ext) {
  Place place = place_of(cpu, selector, 8);
  if (!place.inside) return fail(cpu, vector, selector_error(selector, ext));
  d = {0, 0, place.linear};
  return read_linear(cpu, place.linear, d.raw, As::Supervisor);
}

bool read_system_descriptor(Cpu &cpu, u16 selector, Descriptor &d, u8 vector, u32 ext) {
  if (!read_descriptor(cpu, selector, d, vector, ext)) return false;
  if (!cpu.long_mode() || !d.is_system()) return true;
  if (!place_of(cpu, selector, 16).inside) return fail(cpu, vector, selector_error(selector, ext));
  if (!read_linear(cpu, d.linear + 8, d.upper, As::Supervisor)) return false;
  // The type field of the second half must be 0, so that it cannot be taken for a descriptor of its own (SDM 3A
  // §5.8.3.1).
  if (d.upper >> 40 & 31) return fail(cpu, vector, selector_error(selector, ext));
  return true;
}

bool mark_accessed(Cpu &cpu, Descriptor &d) {
  constexpr u64 kAccessed = 1ull << 40;
  return d.raw & kAccessed || write_type_byte(cpu, d, d.raw | kAccessed);
}

bool mark_busy(Cpu &cpu, Descriptor &tss, bool busy) {
  constexpr u64 kBusy = 2ull << 40;
  return write_type_byte(cpu, tss, busy ? tss.raw | kBusy : tss.raw & ~kBusy);
}

} // namespace abyme::soft::system
