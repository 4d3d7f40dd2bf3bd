// Memory operands: effective address, segmentation, linear address (SDM 3A §5.3-5.5, 1 §3.7.5).
#include "soft/mmu/access.hpp"

namespace abyme::soft {
namespace {

using namespace x86;

u64 slot(const Cpu &cpu, u8 offset) { return *reinterpret_cast<const u64 *>(reinterpret_cast<const u8 *>(cpu.gpr) + offset); }

bool canonical(u64 linear) { return static_cast<u64>(static_cast<i64>(linear << 16) >> 16) == linear; }

bool violation(Cpu &cpu, u8 segment) {
  (void)raise(cpu, segment == SS ? SS_ : GP, 0);
  cpu.fault.non_canonical = cpu.code64();
  return false;
}

// Limit and type of a segment outside of 64-bit mode.
bool segment_allows(const Cpu &cpu, const Segment &s, u64 offset, unsigned size, bool write) {
  const u64 last = offset + size - 1;
  if (!cpu.protected_mode() || cpu.v86()) return last <= s.limit;
  if (!s.usable()) return false;
  const bool code = s.rights & 8;
  if (code ? (write || !(s.rights & 2)) : (write && !(s.rights & 2))) return false;
  const bool expand_down = !code && (s.rights & 4);
  if (!expand_down) return last <= s.limit;
  return offset > s.limit && last <= (s.big() ? 0xFFFFFFFFull : 0xFFFFull);
}

} // namespace

u64 effective_address(const Cpu &cpu, const Op &op) {
  const u64 ea = slot(cpu, op.base) + (slot(cpu, op.index) << op.scale) + static_cast<i64>(op.disp);
  if (op.address_size == 8) return ea;
  return op.address_size == 4 ? static_cast<u32>(ea) : static_cast<u16>(ea);
}

bool to_linear(Cpu &cpu, u8 segment, u64 offset, unsigned size, bool write, u64 &linear) {
  const Segment &s = cpu.segments[segment];
  if (cpu.code64()) {
    linear = segment == FS || segment == GS ? s.base + offset : offset;
    return (canonical(linear) && canonical(linear + size - 1)) || violation(cpu, segment);
  }
  linear = static_cast<u32>(s.base + offset);
  // Even a flat segment ends at 4 GiB: an operand does not wrap around it.
  const bool allowed = segment == Op::kFlat ? offset + size - 1 <= 0xFFFFFFFF : segment_allows(cpu, s, offset, size, write);
  return allowed || violation(cpu, segment);
}

bool operand_linear(Cpu &cpu, const Op &op, unsigned size, bool write, u64 &linear) {
  return to_linear(cpu, operand_segment(op), effective_address(cpu, op), size, write, linear);
}

bool read_operand(Cpu &cpu, const Op &op, void *to, unsigned size) {
  u64 linear;
  return operand_linear(cpu, op, size, false, linear) && read_linear(cpu, linear, to, size);
}

bool write_operand(Cpu &cpu, const Op &op, const void *from, unsigned size) {
  u64 linear;
  return operand_linear(cpu, op, size, true, linear) && write_linear(cpu, linear, from, size);
}

} // namespace abyme::soft
