// Vector instructions that touch memory element by element, and the upper halves.
#include "soft/hostexec/manual.hpp"
#include "soft/hostexec/x87.hpp"
#include "soft/mmu/access.hpp"
#include <algorithm>
#include <cstring>

namespace abyme::soft::hostexec {
namespace {

// Sign bit of an element: what VEX masks and MASKMOV select by.
bool selected(const u8 *mask, unsigned n, unsigned size) { return mask[n * size + size - 1] & 0x80; }

i64 index_of(const u8 *indices, unsigned n, unsigned size) {
  if (size == 8) {
    i64 v;
    std::memcpy(&v, indices + n * 8, 8);
    return v;
  }
  i32 v;
  std::memcpy(&v, indices + n * 4, 4);
  return v;
}

u64 truncate(u64 offset, u8 address_size) {
  return address_size == 8 ? offset : address_size == 4 ? static_cast<u32>(offset) : static_cast<u16>(offset);
}

u8 segment_of(const Cpu &cpu, const Op &op) {
  const bool stack = op.flags & kOpStackSegment;
  return stack && op.segment == Op::kFlat && cpu.code64() ? static_cast<u8>(x86::SS) : op.segment;
}

// Linear address of element n of op's memory operand.
bool locate_element(Cpu &cpu, const Op &op, u64 displacement, unsigned size, bool write, u64 &linear) {
  const u64 offset = truncate(effective_address(cpu, op) + displacement, op.address_size);
  return to_linear(cpu, segment_of(cpu, op), offset, size, write, linear);
}

// Writes the selected bytes or elements of `from`: all of them may be written, or none is.
bool store_selected(Cpu &cpu, const Op &op, const u8 *from, const u8 *mask, unsigned count, unsigned size) {
  u64 linear[16];
  for (unsigned n = 0; n < count; ++n)
    if (selected(mask, n, size) &&
        !(locate_element(cpu, op, n * size, size, true, linear[n]) && probe_write(cpu, linear[n], size)))
      return false;
  for (unsigned n = 0; n < count; ++n)
    if (selected(mask, n, size) && !write_linear(cpu, linear[n], from + n * size, size)) return false;
  return true;
}

} // namespace

// Elements in order; one that faults leaves those before it loaded and their mask cleared (SDM 2C VGATHERDPS).
Outcome gather(Cpu &cpu, const Op &op, const Plan &plan) {
  u8 *to = cpu.ymm[plan.reg], *mask = cpu.ymm[plan.vvvv];
  const u8 *indices = cpu.ymm[plan.index];
  const unsigned size = plan.element;
  const unsigned count = plan.vector_size / std::max<unsigned>(size, plan.index_element);
  for (unsigned n = 0; n < count; ++n) {
    if (selected(mask, n, size)) {
      const u64 displacement = static_cast<u64>(index_of(indices, n, plan.index_element)) << plan.imm;
      u64 linear = 0;
      if (!locate_element(cpu, op, displacement, size, false, linear)) return Outcome::Fault;
      if (!read_linear(cpu, linear, to + n * size, size)) return Outcome::Fault;
    }
    std::memset(mask + n * size, 0, size);
  }
  std::memset(to + count * size, 0, 32 - count * size);
  std::memset(mask, 0, 32);
  return Outcome::Next;
}

Outcome masked_load(Cpu &cpu, const Op &op, const Plan &plan) {
  alignas(32) u8 value[32] = {};
  const u8 *mask = cpu.ymm[plan.vvvv];
  const unsigned size = plan.element;
  for (unsigned n = 0; n < plan.vector_size / size; ++n) {
    if (!selected(mask, n, size)) continue;
    u64 linear = 0;
    if (!locate_element(cpu, op, n * size, size, false, linear)) return Outcome::Fault;
    if (!read_linear(cpu, linear, value + n * size, size)) return Outcome::Fault;
  }
  std::memcpy(cpu.ymm[plan.reg], value, 32);
  return Outcome::Next;
}

Outcome masked_store(Cpu &cpu, const Op &op, const Plan &plan) {
  const bool done =
      store_selected(cpu, op, cpu.ymm[plan.reg], cpu.ymm[plan.vvvv], plan.vector_size / plan.element, plan.element);
  return done ? Outcome::Next : Outcome::Fault;
}

Outcome masked_bytes(Cpu &cpu, const Op &op, const Plan &plan) {
  return store_selected(cpu, op, cpu.ymm[plan.reg], cpu.ymm[plan.rm], 16, 1) ? Outcome::Next : Outcome::Fault;
}

// MMn is physical register n: at the stack position that n has from TOP, and MMX instructions make TOP 0 and every tag
// valid.
Outcome masked_bytes_mmx(Cpu &cpu, const Op &op, const Plan &plan) {
  unload_x87(cpu);
  X87Image &x = image(cpu);
  const unsigned top = x.fsw >> 11 & 7;
  const u8 *from = x.st[(plan.reg - top) & 7], *mask = x.st[(plan.rm - top) & 7];
  if (!store_selected(cpu, op, from, mask, 8, 1)) return Outcome::Fault;
  set_top(x, 0);
  x.tags = 0xFF;
  return Outcome::Next;
}

Outcome vzeroupper(Cpu &cpu, const Op &, const Plan &) {
  for (unsigned n = 0; n < (cpu.code64() ? 16u : 8u); ++n) std::memset(cpu.ymm[n] + 16, 0, 16);
  return Outcome::Next;
}

Outcome vzeroall(Cpu &cpu, const Op &, const Plan &) {
  std::memset(cpu.ymm, 0, cpu.code64() ? sizeof cpu.ymm : sizeof cpu.ymm / 2);
  return Outcome::Next;
}

} // namespace abyme::soft::hostexec
