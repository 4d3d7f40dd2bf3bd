#pragma once
#include "soft/interp/dispatch.hpp"
#include "soft/mmu/access.hpp"

namespace abyme::soft {

// What the string instructions share: RSI and RDI at the address size, the direction, the count in RCX.
struct StringUnit {
  unsigned size;
  u8 address_size;
  u8 segment; // of the source; the destination is always ES
  bool down;
  u64 mask;

  StringUnit(const Cpu &cpu, const Op &op)
      : size(op.size), address_size(op.address_size), segment(op.segment), down(cpu.rflags_rest & x86::rflags::DF),
        mask(op.address_size == 8 ? ~0ull : op.address_size == 4 ? 0xFFFFFFFFull : 0xFFFFull) {}

  [[nodiscard]] bool source_linear(Cpu &cpu, bool write, u64 &linear) const {
    return to_linear(cpu, segment, cpu.gpr[x86::RSI] & mask, size, write, linear);
  }
  [[nodiscard]] bool destination_linear(Cpu &cpu, bool write, u64 &linear) const {
    return to_linear(cpu, cpu.code64() ? Op::kFlat : static_cast<u8>(x86::ES), cpu.gpr[x86::RDI] & mask, size, write, linear);
  }
  [[nodiscard]] bool read_source(Cpu &cpu, u64 &value) const {
    u64 linear;
    return source_linear(cpu, false, linear) && read_linear(cpu, linear, &value, size);
  }
  [[nodiscard]] bool read_destination(Cpu &cpu, u64 &value) const {
    u64 linear;
    return destination_linear(cpu, false, linear) && read_linear(cpu, linear, &value, size);
  }
  [[nodiscard]] bool write_destination(Cpu &cpu, u64 value) const {
    u64 linear;
    return destination_linear(cpu, true, linear) && write_linear(cpu, linear, &value, size);
  }
  // How many of n elements, counted from here upwards, wrap around neither address register nor leave a segment's limit: all or one.
  [[nodiscard]] u64 within_limits(const Cpu &cpu, u64 n) const {
    if (address_size == 8) return n;
    const u64 bytes = n * size;
    const auto fits = [&](u64 start, u32 limit) { return (start & mask) + bytes - 1 <= (limit < mask ? limit : mask); };
    const u32 source_limit = cpu.code64() ? ~0u : cpu.segments[segment].limit;
    const u32 destination_limit = cpu.code64() ? ~0u : cpu.segments[x86::ES].limit;
    return fits(cpu.gpr[x86::RSI], source_limit) && fits(cpu.gpr[x86::RDI], destination_limit) ? n : 1;
  }
  [[nodiscard]] u64 count(const Cpu &cpu) const { return cpu.gpr[x86::RCX] & mask; }
  void set_count(Cpu &cpu, u64 n) const { put(cpu, x86::RCX, n); }
  void advance(Cpu &cpu, u64 elements, bool source, bool destination) const {
    const u64 by = down ? -(elements * size) : elements * size;
    if (source) put(cpu, x86::RSI, cpu.gpr[x86::RSI] + by);
    if (destination) put(cpu, x86::RDI, cpu.gpr[x86::RDI] + by);
  }

private:
  void put(Cpu &cpu, x86::Gpr r, u64 value) const {
    cpu.gpr[r] = mask == 0xFFFF ? (cpu.gpr[r] & ~mask) | (value & mask) : value & mask;
  }
};

} // namespace abyme::soft
