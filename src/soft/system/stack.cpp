#include "soft/system/stack.hpp"
#include "soft/mmu/access.hpp"
#include <cstring>

namespace abyme::soft::system {

using x86::RSP;

u64 stack_mask(const Cpu &cpu) { return cpu.code64() ? ~0ull : cpu.segments[x86::SS].big() ? 0xFFFFFFFF : 0xFFFF; }

void set_sp(Cpu &cpu, u64 value, u64 mask) {
  cpu.gpr[RSP] = mask == 0xFFFF ? (cpu.gpr[RSP] & ~0xFFFFull) | (value & 0xFFFF) : value & mask;
}

bool within_limit(const x86::Segment &segment, u64 offset, u64 size) {
  bool expands_down = (segment.rights & 12) == 4 && (segment.rights & x86::Segment::kSystemBit);
  u64 last = offset + size - 1;
  if (!expands_down) return last <= segment.limit;
  return offset > segment.limit && last <= (segment.big() ? 0xFFFFFFFF : 0xFFFF);
}

StackPlace current_stack(const Cpu &cpu, u32 error) {
  return {cpu.segments[x86::SS], cpu.gpr[RSP], cpu.cpl, error, cpu.code64()};
}

bool Frame::fits(Cpu &cpu, const StackPlace &place) const {
  for (unsigned i = 0; i < count_; i++) {
    u64 at = offset_of(place, i);
    bool ok = place.flat ? canonical(cpu, at) && canonical(cpu, at + item_size_ - 1)
                         : place.ss.usable() && within_limit(place.ss, at, item_size_);
    if (!ok) return fail(cpu, x86::SS_, place.error);
  }
  return true;
}

bool Frame::write(Cpu &cpu, StackPlace &place) const {
  if (!fits(cpu, place)) return false;
  if (!count_) return true;
  // Pushes by more privileged code are its own accesses, though CPL has not changed yet.
  As as = place.cpl == cpu.cpl ? As::Cpl : As::Supervisor;
  u64 base = place.flat ? 0 : place.ss.base, top = place.sp & place.mask();
  u64 bottom = offset_of(place, count_ - 1);
  auto linear = [&](u64 offset) { return place.flat ? offset : (base + offset) & 0xFFFFFFFF; };
  unsigned bytes = count_ * item_size_;
  if (bottom + bytes == top || (top == 0 && bottom + bytes - 1 == place.mask())) {
    u8 image[sizeof items_];
    for (unsigned i = 0; i < count_; i++) std::memcpy(image + (count_ - 1 - i) * item_size_, &items_[i], item_size_);
    // The first push is the first to fault.
    u64 first = linear(bottom + bytes - item_size_);
    if (!probe_write(cpu, first, item_size_, as) || !write_linear(cpu, linear(bottom), image, bytes, as)) return false;
  } else { // wraps around the end of a 16-bit stack
    for (unsigned i = 0; i < count_; i++)
      if (!probe_write(cpu, linear(offset_of(place, i)), item_size_, as)) return false;
    for (unsigned i = 0; i < count_; i++)
      if (!write_linear(cpu, linear(offset_of(place, i)), &items_[i], item_size_, as)) return false;
  }
  place.sp = bottom;
  return true;
}

Popper::Popper(Cpu &cpu, unsigned item_size)
    : cpu_(cpu), item_size_(item_size), mask_(stack_mask(cpu)), sp_(cpu.gpr[RSP] & mask_) {}

bool Popper::pop(u64 &value) {
  u64 linear;
  value = 0;
  if (!to_linear(cpu_, x86::SS, sp_ & mask_, item_size_, false, linear) ||
      !read_linear(cpu_, linear, &value, item_size_))
    return false;
  sp_ = (sp_ + item_size_) & mask_;
  return true;
}

bool Popper::pop_selector(u16 &selector) {
  u64 value;
  if (!pop(value)) return false;
  selector = static_cast<u16>(value);
  return true;
}

void Popper::commit() { set_sp(cpu_, sp_, mask_); }

} // namespace abyme::soft::system
