// x87 control: the control word, and the environment in its four formats (SDM 1 §8.1.10, figures 8-9 to 8-12).
#include "soft/hostexec/manual.hpp"
#include "soft/hostexec/x87.hpp"
#include "soft/mmu/access.hpp"
#include <cstring>

namespace abyme::soft::hostexec {
namespace {

using namespace x86;

enum class Tag : u8 { Valid = 0, Zero = 1, Special = 2, Empty = 3 };

// What the full tag word says about a register that is not empty.
Tag classify(const u8 *st) {
  u64 significand;
  u16 high;
  std::memcpy(&significand, st, 8);
  std::memcpy(&high, st + 8, 2);
  const u16 exponent = high & 0x7FFF;
  if (exponent == 0 && significand == 0) return Tag::Zero;
  return exponent == 0 || exponent == 0x7FFF || !(significand >> 63) ? Tag::Special : Tag::Valid;
}

u16 full_tags(const X87Image &x) {
  const unsigned top = x.fsw >> 11 & 7;
  u16 word = 0;
  for (unsigned n = 0; n < 8; ++n) {
    const Tag tag = x.tags >> n & 1 ? classify(x.st[(n - top) & 7]) : Tag::Empty;
    word |= static_cast<u16>(static_cast<unsigned>(tag) << (2 * n));
  }
  return word;
}

u8 abridged_tags(u16 word) {
  u8 tags = 0;
  for (unsigned n = 0; n < 8; ++n)
    if ((word >> (2 * n) & 3) != 3) tags |= static_cast<u8>(1 << n);
  return tags;
}

struct Format {
  bool wide; // 32-bit
  bool real; // pointers are linear addresses
  [[nodiscard]] unsigned size() const { return wide ? 28 : 14; }
};

Format format_of(const Cpu &cpu, const Plan &plan) {
  return {plan.operand_width != 16, (cpu.mode & (kModeReal | kModeV86)) != 0};
}

u32 linear_pointer(u16 selector, u64 offset) { return static_cast<u32>((static_cast<u32>(selector) << 4) + offset); }

// The seven words of the environment, as 32-bit or 16-bit numbers. Unused upper halves read as ones.
void pack(Cpu &cpu, Format format, u8 *out) {
  const X87Image &x = image(cpu);
  const u32 ip = format.real ? linear_pointer(cpu.x87_cs, x.fip) : static_cast<u32>(x.fip);
  const u32 dp = format.real ? linear_pointer(cpu.x87_ds, x.fdp) : static_cast<u32>(x.fdp);
  const u16 fop = x.fop & 0x7FF;
  if (!format.wide) {
    const u16 words[7] = {x.fcw,
                          x.fsw,
                          full_tags(x),
                          static_cast<u16>(ip),
                          static_cast<u16>(format.real ? (ip >> 16 & 15) << 12 | fop : cpu.x87_cs),
                          static_cast<u16>(dp),
                          static_cast<u16>(format.real ? (dp >> 16 & 15) << 12 : cpu.x87_ds)};
    std::memcpy(out, words, sizeof words);
    return;
  }
  constexpr u32 kOnes = 0xFFFF0000;
  const u32 words[7] = {kOnes | x.fcw,
                        kOnes | x.fsw,
                        kOnes | full_tags(x),
                        format.real ? kOnes | (ip & 0xFFFF) : ip,
                        format.real ? (ip >> 16) << 12 | fop : static_cast<u32>(fop) << 16 | cpu.x87_cs,
                        format.real ? kOnes | (dp & 0xFFFF) : dp,
                        format.real ? (dp >> 16) << 12 : kOnes | cpu.x87_ds};
  std::memcpy(out, words, sizeof words);
}

void unpack(Cpu &cpu, Format format, const u8 *in) {
  u32 w[7];
  for (unsigned n = 0; n < 7; ++n) {
    w[n] = 0;
    std::memcpy(&w[n], in + n * (format.wide ? 4 : 2), format.wide ? 4 : 2);
  }
  X87Image &x = image(cpu);
  x.fcw = static_cast<u16>((w[0] & 0x1F3F) | 0x40);
  x.fsw = static_cast<u16>(w[1]);
  x.tags = abridged_tags(static_cast<u16>(w[2]));
  update_summary(x);
  if (format.real) {
    x.fip = (w[3] & 0xFFFF) | (w[4] >> 12 & 0xFFFF) << 16;
    x.fdp = (w[5] & 0xFFFF) | (w[6] >> 12 & 0xFFFF) << 16;
    x.fop = w[4] & 0x7FF;
    cpu.x87_cs = cpu.x87_ds = 0;
    return;
  }
  x.fip = w[3];
  x.fdp = w[5];
  cpu.x87_cs = static_cast<u16>(w[4]);
  cpu.x87_ds = static_cast<u16>(w[6]);
  x.fop = format.wide ? w[4] >> 16 & 0x7FF : 0;
}

constexpr unsigned kRegisterBytes = 10;

} // namespace

// Of all instructions FWAIT alone looks at CR0.MP (SDM 3A table 9-3).
Outcome fwait(Cpu &cpu, const Op &, const Plan &) {
  if ((cpu.cr0 & (cr0::MP | cr0::TS)) == (cr0::MP | cr0::TS)) return raise(cpu, NM);
  if (exception_pending(cpu) && cpu.cr0 & cr0::NE) return raise(cpu, MF);
  return Outcome::Next;
}

Outcome fninit(Cpu &cpu, const Op &, const Plan &) {
  unload_x87(cpu);
  X87Image &x = image(cpu);
  set_top(x, 0);
  x.fcw = kFcwReset;
  x.fsw = x.fop = 0;
  x.tags = 0;
  x.fip = x.fdp = 0;
  cpu.x87_cs = cpu.x87_ds = 0;
  return Outcome::Next;
}

Outcome fnclex(Cpu &cpu, const Op &, const Plan &) {
  unload_x87(cpu);
  image(cpu).fsw &= 0x7F00;
  return Outcome::Next;
}

Outcome fldcw(Cpu &cpu, const Op &op, const Plan &) {
  u16 value = 0;
  if (!read_operand(cpu, op, &value, sizeof value)) return Outcome::Fault;
  if (cpu.x87_live && (value & kX87Exceptions) == kX87Exceptions) {
    asm volatile("fldcw %0" : : "m"(value));
    return Outcome::Next;
  }
  unload_x87(cpu);
  image(cpu).fcw = static_cast<u16>((value & 0x1F3F) | 0x40);
  update_summary(image(cpu));
  return Outcome::Next;
}

Outcome fnstenv(Cpu &cpu, const Op &op, const Plan &plan) {
  unload_x87(cpu);
  const Format format = format_of(cpu, plan);
  u8 bytes[28];
  pack(cpu, format, bytes);
  if (!write_operand(cpu, op, bytes, format.size())) return Outcome::Fault;
  image(cpu).fcw |= kX87Exceptions;
  update_summary(image(cpu));
  return Outcome::Next;
}

Outcome fldenv(Cpu &cpu, const Op &op, const Plan &plan) {
  unload_x87(cpu);
  const Format format = format_of(cpu, plan);
  u8 bytes[28];
  if (!read_operand(cpu, op, bytes, format.size())) return Outcome::Fault;
  u16 fsw;
  std::memcpy(&fsw, bytes + format.size() / 7, sizeof fsw);
  set_top(image(cpu), fsw >> 11 & 7);
  unpack(cpu, format, bytes);
  return Outcome::Next;
}

Outcome fnsave(Cpu &cpu, const Op &op, const Plan &plan) {
  unload_x87(cpu);
  const Format format = format_of(cpu, plan);
  u8 bytes[108];
  pack(cpu, format, bytes);
  for (unsigned n = 0; n < 8; ++n)
    std::memcpy(bytes + format.size() + n * kRegisterBytes, image(cpu).st[n], kRegisterBytes);
  if (!write_operand(cpu, op, bytes, format.size() + 8 * kRegisterBytes)) return Outcome::Fault;
  return fninit(cpu, op, plan);
}

Outcome frstor(Cpu &cpu, const Op &op, const Plan &plan) {
  unload_x87(cpu);
  const Format format = format_of(cpu, plan);
  u8 bytes[108];
  if (!read_operand(cpu, op, bytes, format.size() + 8 * kRegisterBytes)) return Outcome::Fault;
  unpack(cpu, format, bytes);
  std::memset(image(cpu).st, 0, sizeof image(cpu).st);
  for (unsigned n = 0; n < 8; ++n)
    std::memcpy(image(cpu).st[n], bytes + format.size() + n * kRegisterBytes, kRegisterBytes);
  return Outcome::Next;
}

} // namespace abyme::soft::hostexec
