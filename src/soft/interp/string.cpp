// MOVS, STOS, LODS, SCAS, CMPS, with REP. A repeated one stops after a piece when the vCPU must look up, with the registers saying how far
// it came, and is then executed again from there (SDM 2B REP).
#include "soft/interp/flags.hpp"
#include "soft/interp/handlers.hpp"
#include "soft/interp/string_unit.hpp"

namespace abyme::soft {
namespace {

using namespace x86;

// Elements that one host copy may cover: within a page on both sides, upwards.
u64 span(const StringUnit &u, u64 linear, u64 count) {
  const u64 room = (kPageSize - (linear & 0xFFF)) / u.size;
  return room < count ? room : count;
}

// A piece of REP MOVS as one host copy. 0: not possible here, take one element the slow way.
u64 copy_piece(Cpu &cpu, const StringUnit &u, u64 count) {
  u64 from, to;
  if (u.down || !u.source_linear(cpu, false, from) || !u.destination_linear(cpu, true, to)) return 0;
  u64 n = span(u, from, span(u, to, count));
  if (n <= 1) return 0;
  n = u.within_limits(cpu, n);
  if (n <= 1) return 0;
  const unsigned bytes = static_cast<unsigned>(n * u.size);
  const u8 *source = host_pointer(cpu, from, bytes, false);
  if (!source) return 0;
  u8 *destination = host_pointer(cpu, to, bytes, true);
  if (!destination) return 0;
  if (destination > source && destination < source + bytes) { // overlapping upwards: the pattern repeats itself
    for (u64 i = 0; i < bytes; i += u.size) __builtin_memmove(destination + i, source + i, u.size);
  } else {
    __builtin_memmove(destination, source, bytes);
  }
  return n;
}

u64 fill_piece(Cpu &cpu, const StringUnit &u, u64 count) {
  u64 to;
  if (u.down || !u.destination_linear(cpu, true, to)) return 0;
  u64 n = span(u, to, count);
  if (n <= 1) return 0;
  n = u.within_limits(cpu, n);
  if (n <= 1) return 0;
  u8 *p = host_pointer(cpu, to, static_cast<unsigned>(n * u.size), true);
  if (!p) return 0;
  const u64 value = cpu.gpr[RAX];
  switch (u.size) {
  case 1: __builtin_memset(p, static_cast<u8>(value), n); break;
  case 2:
    for (u64 i = 0; i < n; i++) __builtin_memcpy(p + i * 2, &value, 2);
    break;
  case 4:
    for (u64 i = 0; i < n; i++) __builtin_memcpy(p + i * 4, &value, 4);
    break;
  default:
    for (u64 i = 0; i < n; i++) __builtin_memcpy(p + i * 8, &value, 8);
  }
  return n;
}

template <StringOp K> u64 piece(Cpu &cpu, const StringUnit &u, u64 count) {
  cpu.fault.kind = Fault::Kind::None;
  u64 n = 0;
  if constexpr (K == StringOp::Movs) n = copy_piece(cpu, u, count);
  if constexpr (K == StringOp::Stos) n = fill_piece(cpu, u, count);
  cpu.fault.kind = Fault::Kind::None; // the element that follows faults on its own account
  return n;
}

void compare(Cpu &cpu, u64 a, u64 b, unsigned size) {
  switch (size) {
  case 1: (void)flags::sub<u8>(static_cast<u8>(a), static_cast<u8>(b), cpu.status); break;
  case 2: (void)flags::sub<u16>(static_cast<u16>(a), static_cast<u16>(b), cpu.status); break;
  case 4: (void)flags::sub<u32>(static_cast<u32>(a), static_cast<u32>(b), cpu.status); break;
  default: (void)flags::sub<u64>(a, b, cpu.status);
  }
}

void set_accumulator(Cpu &cpu, u64 value, unsigned size) {
  switch (size) {
  case 1: reg<u8>(cpu, 0) = static_cast<u8>(value); break;
  case 2: reg<u16>(cpu, 0) = static_cast<u16>(value); break;
  case 4: set_reg<u32>(cpu, 0, static_cast<u32>(value)); break;
  default: cpu.gpr[RAX] = value;
  }
}

template <StringOp K> bool element(Cpu &cpu, const StringUnit &u) {
  u64 a = 0, b = 0;
  if constexpr (K == StringOp::Movs) {
    if (!u.read_source(cpu, a) || !u.write_destination(cpu, a)) return false;
  } else if constexpr (K == StringOp::Stos) {
    if (!u.write_destination(cpu, cpu.gpr[RAX])) return false;
  } else if constexpr (K == StringOp::Lods) {
    if (!u.read_source(cpu, a)) return false;
    set_accumulator(cpu, a, u.size);
  } else if constexpr (K == StringOp::Scas) {
    if (!u.read_destination(cpu, b)) return false;
    compare(cpu, cpu.gpr[RAX], b, u.size);
  } else {
    if (!u.read_source(cpu, a) || !u.read_destination(cpu, b)) return false;
    compare(cpu, a, b, u.size);
  }
  u.advance(cpu, 1, K != StringOp::Stos && K != StringOp::Scas, K != StringOp::Lods);
  return true;
}

template <StringOp K> Outcome string(Cpu &cpu, const Op &op) {
  const StringUnit u(cpu, op);
  if (!(op.flags & (kOpRep | kOpRepne))) return element<K>(cpu, u) ? Outcome::Next : Outcome::Fault;
  constexpr bool kCompares = K == StringOp::Scas || K == StringOp::Cmps;
  for (u64 count = u.count(cpu); count != 0;) {
    u64 done = piece<K>(cpu, u, count);
    if (done) u.advance(cpu, done, K == StringOp::Movs, true);
    else if (!element<K>(cpu, u)) return Outcome::Fault;
    else done = 1;
    count -= done;
    u.set_count(cpu, count);
    if (kCompares && ((cpu.status & flags::kZero) != 0) != ((op.flags & kOpRep) != 0)) break;
    if (count != 0 && cpu.attention.load(std::memory_order_relaxed)) return Outcome::Branch; // cpu.rip is still this instruction's
  }
  return Outcome::Next;
}

} // namespace

SlowHandler string_handler(StringOp operation) {
  switch (operation) {
  case StringOp::Movs: return string<StringOp::Movs>;
  case StringOp::Stos: return string<StringOp::Stos>;
  case StringOp::Lods: return string<StringOp::Lods>;
  case StringOp::Scas: return string<StringOp::Scas>;
  case StringOp::Cmps: break;
  }
  return string<StringOp::Cmps>;
}

} // namespace abyme::soft
