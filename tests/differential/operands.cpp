#include "operands.hpp"
#include <algorithm>
#include <iterator>

namespace abyme::differential {
namespace {

constexpr u64 kIntegers[] = {0,       1,          2,          0x7F,       0x80,       0xFF,
                             0x7FFF,  0x8000,     0xFFFF,     0x10000,    0x7FFFFFFF, 0x80000000,
                             1 << 16, 0xFFFFFFFF, 1ull << 32, 1ull << 63, ~0ull,      0x7FFFFFFFFFFFFFFF};

u64 integer(Random &r) {
  switch (r.below(4)) {
  case 0: return kIntegers[r.below(std::size(kIntegers))];
  case 1: return r.below(256);
  case 2: return kIntegers[r.below(std::size(kIntegers))] + r.below(5) - 2;
  default: return r.next();
  }
}

// Exponent and fraction corners, for a format of so many bits: zeroes, denormals, normals near the ends, infinities,
// NaNs of both kinds.
u64 floating(Random &r, unsigned exponent_bits, unsigned fraction_bits) {
  const u64 max = (1ull << exponent_bits) - 1, bias = max >> 1;
  const u64 exponents[] = {
      0, 0, 1, 2, bias - 1, bias, bias + 1, bias + fraction_bits, max - 1, max, max, r.below(max + 1)};
  const u64 quiet = 1ull << (fraction_bits - 1);
  const u64 full = (quiet << 1) - 1;
  const u64 fractions[] = {0, 0, 1, quiet, quiet | 1, full, r.next() & full, r.next() & full};
  return (r.next() >> 20 & 1) << (exponent_bits + fraction_bits) |
         exponents[r.below(std::size(exponents))] << fraction_bits | fractions[r.below(std::size(fractions))];
}

void vector(Random &r, u8 *out, unsigned size) {
  const unsigned kind = static_cast<unsigned>(r.below(4));
  for (unsigned n = 0; n < size; n += 8) {
    u64 v = 0;
    switch (kind) {
    case 0: v = floating(r, 8, 23) << 32 | floating(r, 8, 23); break;
    case 1: v = floating(r, 11, 52); break;
    case 2: v = integer(r); break;
    default: v = r.next(); break;
    }
    std::memcpy(out + n, &v, 8);
  }
}

void extended(Random &r, u8 *out) {
  std::memset(out, 0, 16);
  u16 high = static_cast<u16>((r.next() >> 20 & 1) << 15);
  const u16 exponents[] = {
      0, 0, 1, 0x3FFE, 0x3FFF, 0x4000, 0x403E, 0x7FFE, 0x7FFF, 0x7FFF, static_cast<u16>(r.below(0x8000))};
  high |= exponents[r.below(std::size(exponents))];
  u64 significand = r.chance(50) ? r.next() : kIntegers[r.below(std::size(kIntegers))];
  if ((high & 0x7FFF) && r.chance(90)) significand |= 1ull << 63; // else an unsupported format
  std::memcpy(out, &significand, 8);
  std::memcpy(out + 8, &high, 2);
}

void fpu(Random &r, State &s) {
  s.fcw = static_cast<u16>(0x40 | (r.chance(75) ? 0x3F : r.below(64)) | r.below(16) << 8);
  if ((s.fcw >> 8 & 3) == 1) s.fcw |= 0x200; // precision control 01b is reserved
  s.fsw = static_cast<u16>((r.chance(50) ? 0 : r.below(64)) | (r.next() & 0x4700) | r.below(8) << 11);
  if ((s.fsw & 0x3F) == 0) s.fsw &= static_cast<u16>(~0x40);
  if (s.fsw & ~s.fcw & 0x3F && r.chance(90)) s.fsw &= static_cast<u16>(~0x3F); // pending: rarely
  if (s.fsw & ~s.fcw & 0x3F) s.fsw |= 0x8080;
  s.tags = r.chance(60) ? 0xFF : static_cast<u8>(r.next() >> 8);
  for (auto &st : s.st) extended(r, st);
}

void registers(Random &r, State &s) {
  std::memset(&s, 0, sizeof s);
  for (u64 &g : s.gpr) g = integer(r);
  s.rflags = (r.next() & 0x8D5) | 0x202;
  if (r.chance(20)) s.rflags |= 0x400;
  s.mxcsr = static_cast<u32>((r.chance(75) ? 0x1F80 : r.below(64) << 7) | (r.next() & 0xE040) |
                             (r.chance(50) ? 0 : r.below(64)));
  for (auto &v : s.ymm) vector(r, v, 32);
  fpu(r, s);
}

// Where a memory operand is to lie.
u64 target(Random &r, unsigned size) {
  const u64 middle = kData + kPage;
  switch (r.below(16)) {
  case 0: return middle - r.below(size + 1);                // across the pages
  case 1: return kData + kDataSize - r.below(2 * size + 1); // off the end
  case 2: return r.chance(50) ? 0x8000'0000'0000'0000ull >> r.below(17) : kData - 1 - r.below(size);
  case 3:
  case 4: return middle + r.below(256); // wherever
  default: return middle + r.below(8) * 64;
  }
}

int number_of(ZydisRegister reg) {
  if (reg == ZYDIS_REGISTER_NONE) return -1;
  return ZydisRegisterGetId(ZydisRegisterGetLargestEnclosing(ZYDIS_MACHINE_MODE_LONG_64, reg));
}

bool is_vector(ZydisRegister reg) {
  const auto cls = ZydisRegisterGetClass(reg);
  return cls == ZYDIS_REGCLASS_XMM || cls == ZYDIS_REGCLASS_YMM;
}

// Indices of a gather: small multiples, some beyond the area.
void indices(Random &r, const ZydisDecodedOperand &o, bool wide, State &s) {
  u8 *v = s.ymm[ZydisRegisterGetId(o.mem.index)];
  for (unsigned n = 0; n < 32; n += wide ? 8 : 4) {
    const i64 index = r.chance(3) ? static_cast<i64>(integer(r)) : static_cast<i64>(r.below(400)) - 200;
    std::memcpy(v + n, &index, wide ? 8 : 4);
  }
}

struct Placement {
  Random &random;
  Case &out;
  u64 fs_base;
};

u64 segment_base(const Placement &p, ZydisRegister segment) {
  if (segment == ZYDIS_REGISTER_GS) return kData + 0x40;
  return segment == ZYDIS_REGISTER_FS ? p.fs_base : 0;
}

// Displacement-only and RIP-relative operands: the displacement in the code itself.
bool place_by_displacement(const Placement &p, const Decoded &d, const ZydisDecodedOperand &o, u64 offset) {
  const auto &raw = d.instruction.raw.disp;
  if (raw.size != 32) return false;
  const bool relative = o.mem.base == ZYDIS_REGISTER_RIP || o.mem.base == ZYDIS_REGISTER_EIP;
  const u64 from = relative ? p.out.before.rip + p.out.length : 0;
  const i64 disp = static_cast<i64>(offset - from);
  if (disp != static_cast<i32>(disp)) return false;
  const i32 value = static_cast<i32>(disp);
  std::memcpy(p.out.code + raw.offset, &value, 4);
  return true;
}

bool place(const Placement &p, const Decoded &d, const ZydisDecodedOperand &o) {
  State &s = p.out.before;
  const u64 address = target(p.random, std::max<unsigned>(o.size / 8, 1));
  u64 offset = address - segment_base(p, o.mem.segment);
  if (d.instruction.address_width == 32) offset = static_cast<u32>(offset);
  const bool vsib = is_vector(o.mem.index);
  if (vsib)
    indices(
        p.random, o,
        d.instruction.mnemonic == ZYDIS_MNEMONIC_VGATHERQPD || d.instruction.mnemonic == ZYDIS_MNEMONIC_VGATHERQPS ||
            d.instruction.mnemonic == ZYDIS_MNEMONIC_VPGATHERQD || d.instruction.mnemonic == ZYDIS_MNEMONIC_VPGATHERQQ,
        s);
  const int base = number_of(o.mem.base), index = vsib ? -1 : number_of(o.mem.index);
  if (o.mem.base == ZYDIS_REGISTER_RIP || o.mem.base == ZYDIS_REGISTER_EIP || (base < 0 && index < 0))
    return place_by_displacement(p, d, o, offset);
  if (base == index || base < 0) return false; // no free term
  u64 rest = static_cast<u64>(o.mem.disp.value);
  if (index >= 0) rest += s.gpr[index] * o.mem.scale;
  s.gpr[base] = offset - rest;
  return true;
}

bool is_xsave_family(ZydisMnemonic m) {
  switch (m) {
  case ZYDIS_MNEMONIC_XSAVE:
  case ZYDIS_MNEMONIC_XSAVE64:
  case ZYDIS_MNEMONIC_XSAVEOPT:
  case ZYDIS_MNEMONIC_XSAVEOPT64:
  case ZYDIS_MNEMONIC_XSAVEC:
  case ZYDIS_MNEMONIC_XSAVEC64:
  case ZYDIS_MNEMONIC_XRSTOR:
  case ZYDIS_MNEMONIC_XRSTOR64:
  case ZYDIS_MNEMONIC_FXSAVE:
  case ZYDIS_MNEMONIC_FXSAVE64:
  case ZYDIS_MNEMONIC_FXRSTOR:
  case ZYDIS_MNEMONIC_FXRSTOR64: return true;
  default: return false;
  }
}

u64 effective(const Placement &p, const ZydisDecodedOperand &o) {
  const State &s = p.out.before;
  u64 ea = static_cast<u64>(o.mem.disp.value) + segment_base(p, o.mem.segment);
  if (const int b = number_of(o.mem.base); b >= 0) ea += s.gpr[b];
  if (const int i = number_of(o.mem.index); i >= 0) ea += s.gpr[i] * o.mem.scale;
  return ea;
}

// An XSAVE area that mostly passes the checks, aligned.
void prepare_area(const Placement &p, const Decoded &d) {
  State &s = p.out.before;
  Random &r = p.random;
  s.gpr[0] &= 7;
  s.gpr[2] = 0;
  const auto &o = d.operands[0];
  const int base = number_of(o.mem.base);
  if (base < 0 || base == 0 || base == 2 || o.mem.base == ZYDIS_REGISTER_RIP) return;
  const u64 at = effective(p, o);
  if (r.chance(95)) s.gpr[base] -= at & 63;
  const u64 start = effective(p, o) - kData;
  if (start > kDataSize - 1024) return;
  u8 *area = p.out.data + start;
  const u32 mxcsr = static_cast<u32>(r.below(0x10000)) | (r.chance(5) ? 0x100000 : 0);
  std::memcpy(area + 24, &mxcsr, 4);
  u64 header[8] = {r.below(8), 0, 0, 0, 0, 0, 0, 0};
  if (r.chance(40)) header[1] = 1ull << 63 | header[0] | r.below(8);
  // Components 5 to 9 (AVX-512, PKRU) the host may have enabled, the guest has not.
  const u64 bit = r.below(64), word = r.below(8);
  if (r.chance(10) && (bit < 5 || bit > 9)) header[word] |= 1ull << bit;
  std::memcpy(area + 512, header, sizeof header);
}

} // namespace

bool make_case(const Instance &instance, Random &random, u64 fs_base, Case &out) {
  const Decoded &d = instance.decoded;
  registers(random, out.before);
  std::memset(out.code, 0xCC, sizeof out.code);
  std::memcpy(out.code, instance.bytes, instance.length);
  out.length = instance.length;
  out.code_offset = static_cast<u16>(random.chance(5) ? kPage - 1 - random.below(instance.length) : 0x800);
  out.compatible = is_compatible(d);
  out.before.rip = kCode + out.code_offset;
  // A gather that faults after some elements delivers the single step first (SDM 2C VGATHERDPS).
  const bool string = d.instruction.meta.category == ZYDIS_CATEGORY_STRINGOP;
  out.repeats = string || d.instruction.meta.category == ZYDIS_CATEGORY_AVX2GATHER;
  if (string) out.before.gpr[1] = random.below(24);
  const Placement p{random, out, fs_base};
  for (unsigned n = 0; n < 32; ++n) vector(random, out.data + kPage - 128 + n * 32, 32);
  if (d.instruction.mnemonic == ZYDIS_MNEMONIC_DIV || d.instruction.mnemonic == ZYDIS_MNEMONIC_IDIV)
    if (random.chance(50)) out.before.gpr[2] = random.below(3) - 1, out.before.gpr[0] = static_cast<u32>(random.next());
  for (unsigned n = 0; n < d.instruction.operand_count; ++n)
    if (d.operands[n].type == ZYDIS_OPERAND_TYPE_MEMORY && d.operands[n].mem.type != ZYDIS_MEMOP_TYPE_AGEN &&
        !place(p, d, d.operands[n]))
      return false;
  if (is_xsave_family(d.instruction.mnemonic)) prepare_area(p, d);
  if (out.compatible) // the upper halves and R8 to R15 are not defined after a change of mode (SDM 1 §3.4.1.1)
    for (unsigned n = 0; n < 16; ++n) out.before.gpr[n] &= n < 8 ? 0xFFFFFFFF : 0;
  return true;
}

} // namespace abyme::differential
