// FXSAVE and the XSAVE family (SDM 1 chapters 10.5 and 13). State components here: x87, SSE and AVX.
#include "soft/hostexec/hostexec.hpp"
#include "soft/hostexec/manual.hpp"
#include "soft/hostexec/mxcsr.hpp"
#include "soft/hostexec/x87.hpp"
#include "soft/mmu/access.hpp"
#include "soft/vmx/vmx.hpp"
#include <algorithm>
#include <cstring>

namespace abyme::soft::hostexec {
namespace {

using namespace x86;

constexpr u64 kX87 = 1, kSse = 2, kAvx = 4;
constexpr u64 kCompacted = 1ull << 63;
constexpr unsigned kXmmOffset = 160, kHeaderOffset = 512, kAvxOffset = 576;
constexpr unsigned kAreaSize = 832;

struct Header {
  u64 xstate_bv, xcomp_bv;
  u64 reserved[6];
};

// An XSAVE area being built or taken apart; `spans` are the parts of it that memory gets.
struct Area {
  alignas(64) u8 bytes[kAreaSize] = {};
  struct Span {
    u16 offset, size;
  } spans[8];
  unsigned span_count = 0;
  void add(unsigned offset, unsigned size) { spans[span_count++] = {static_cast<u16>(offset), static_cast<u16>(size)}; }
};

unsigned vector_count(const Cpu &cpu) { return cpu.code64() ? 16 : 8; }

bool all_zero(const u8 *p, size_t size) {
  return std::all_of(p, p + size, [](u8 b) { return b == 0; });
}

// Bytes 0-23 and 32-159. Without REX.W the pointers are selector and 32-bit offset.
void pack_x87(Cpu &cpu, u8 *area, bool wide) {
  const X87Image &x = image(cpu);
  std::memcpy(area, &x, 24);
  area[5] = 0;
  if (!wide) {
    std::memcpy(area + 12, &cpu.x87_cs, 2);
    std::memset(area + 14, 0, 2);
    std::memcpy(area + 20, &cpu.x87_ds, 2);
    std::memset(area + 22, 0, 2);
  }
  std::memcpy(area + 32, x.st, sizeof x.st);
  for (unsigned n = 0; n < 8; ++n) std::memset(area + 32 + n * 16 + 10, 0, 6);
}

void unpack_x87(Cpu &cpu, const u8 *area, bool wide) {
  unload_x87(cpu);
  X87Image &x = image(cpu);
  std::memcpy(&x, area, 24);
  x.reserved = 0;
  x.fcw = static_cast<u16>((x.fcw & 0x1F3F) | 0x40);
  x.fop &= 0x7FF;
  cpu.x87_cs = cpu.x87_ds = 0;
  if (!wide) {
    std::memcpy(&cpu.x87_cs, area + 12, 2);
    std::memcpy(&cpu.x87_ds, area + 20, 2);
    x.fip &= 0xFFFFFFFF;
    x.fdp &= 0xFFFFFFFF;
  }
  std::memcpy(x.st, area + 32, sizeof x.st);
  for (auto &st : x.st) std::memset(st + 10, 0, 6);
  update_summary(x);
}

void pack_mxcsr(Cpu &cpu, u8 *area) {
  sync_mxcsr(cpu);
  const u32 words[2] = {cpu.mxcsr, kMxcsrMask};
  std::memcpy(area + 24, words, 8);
}

u32 mxcsr_in(const u8 *area) {
  u32 v;
  std::memcpy(&v, area + 24, 4);
  return v;
}

void pack_xmm(const Cpu &cpu, u8 *area) {
  for (unsigned n = 0; n < vector_count(cpu); ++n) std::memcpy(area + kXmmOffset + n * 16, cpu.ymm[n], 16);
}
void unpack_xmm(Cpu &cpu, const u8 *area) {
  for (unsigned n = 0; n < vector_count(cpu); ++n) std::memcpy(cpu.ymm[n], area + kXmmOffset + n * 16, 16);
}
void pack_avx(const Cpu &cpu, u8 *area) {
  for (unsigned n = 0; n < vector_count(cpu); ++n) std::memcpy(area + kAvxOffset + n * 16, cpu.ymm[n] + 16, 16);
}
void unpack_avx(Cpu &cpu, const u8 *area) {
  for (unsigned n = 0; n < vector_count(cpu); ++n) std::memcpy(cpu.ymm[n] + 16, area + kAvxOffset + n * 16, 16);
}

bool x87_in_use(Cpu &cpu) {
  const X87Image &x = image(cpu);
  return x.fcw != kFcwReset || x.fsw || x.tags || x.fop || x.fip || x.fdp || cpu.x87_cs || cpu.x87_ds ||
         !all_zero(&x.st[0][0], sizeof x.st);
}

// XINUSE (SDM 1 §13.6): which components differ from their initial configuration.
u64 in_use(Cpu &cpu) {
  u64 bits = x87_in_use(cpu) ? kX87 : 0;
  for (const auto &v : cpu.ymm) {
    if (!all_zero(v, 16)) bits |= kSse;
    if (!all_zero(v + 16, 16)) bits |= kAvx;
  }
  return bits;
}

Outcome not_available(Cpu &cpu) { return raise(cpu, NM); }

// The checks that all of the XSAVE family begin with; then the address of the area.
[[nodiscard]] bool begin(Cpu &cpu, const Op &op, unsigned size, bool write, u64 &linear) {
  if (!(cpu.cr4 & cr4::OSXSAVE)) return (void)raise(cpu, UD), false;
  if (cpu.cr0 & cr0::TS) return (void)not_available(cpu), false;
  if (!operand_linear(cpu, op, size, write, linear)) return false;
  if (linear & 63) return (void)raise(cpu, GP, 0), false;
  unload_x87(cpu);
  sync_mxcsr(cpu);
  return true;
}

u64 requested(const Cpu &cpu, u64 allowed) { return allowed & (cpu.gpr[RDX] << 32 | static_cast<u32>(cpu.gpr[RAX])); }

[[nodiscard]] bool commit(Cpu &cpu, u64 linear, const Area &area) {
  for (unsigned n = 0; n < area.span_count; ++n)
    if (!probe_write(cpu, linear + area.spans[n].offset, area.spans[n].size)) return false;
  for (unsigned n = 0; n < area.span_count; ++n)
    if (!write_linear(cpu, linear + area.spans[n].offset, area.bytes + area.spans[n].offset, area.spans[n].size))
      return false;
  return true;
}

void add_x87(Cpu &cpu, Area &area, bool wide) {
  pack_x87(cpu, area.bytes, wide);
  area.add(0, 24);
  area.add(32, 128);
}
void add_mxcsr(Cpu &cpu, Area &area) {
  pack_mxcsr(cpu, area.bytes);
  area.add(24, 8);
}
void add_xmm(Cpu &cpu, Area &area) {
  pack_xmm(cpu, area.bytes);
  area.add(kXmmOffset, vector_count(cpu) * 16);
}
void add_avx(Cpu &cpu, Area &area) {
  pack_avx(cpu, area.bytes);
  area.add(kAvxOffset, vector_count(cpu) * 16);
}
void add_header(Area &area, const Header &header, unsigned size) {
  std::memcpy(area.bytes + kHeaderOffset, &header, size);
  area.add(kHeaderOffset, size);
}

unsigned area_size(u64 components) { return components & kAvx ? kAreaSize : kAvxOffset; }

// XSAVE and XSAVEOPT: the standard form (SDM 1 §13.7, §13.9).
Outcome save_standard(Cpu &cpu, const Op &op, const Plan &plan, bool optimized) {
  const u64 wanted = requested(cpu, cpu.xcr0);
  u64 linear = 0;
  if (!begin(cpu, op, area_size(wanted), true, linear)) return Outcome::Fault;
  u64 old = 0;
  if (!probe_write(cpu, linear, kHeaderOffset + sizeof old)) return Outcome::Fault;
  if (!read_linear(cpu, linear + kHeaderOffset, old)) return Outcome::Fault;
  const u64 used = in_use(cpu);
  const u64 saved = optimized ? wanted & used : wanted;
  Area area;
  if (saved & kX87) add_x87(cpu, area, plan.rex_w);
  if (saved & kSse) add_xmm(cpu, area);
  if (wanted & (kSse | kAvx)) add_mxcsr(cpu, area);
  if (saved & kAvx) add_avx(cpu, area);
  add_header(area, {(old & ~wanted) | (used & wanted), 0, {}}, 8);
  return commit(cpu, linear, area) ? Outcome::Next : Outcome::Fault;
}

// XSAVEC and XSAVES: the compacted form (SDM 1 §13.10, §13.11).
Outcome save_compacted(Cpu &cpu, const Op &op, const Plan &plan, u64 allowed) {
  const u64 wanted = requested(cpu, allowed);
  u64 linear = 0;
  if (!begin(cpu, op, area_size(wanted), true, linear)) return Outcome::Fault;
  u64 saved = wanted & in_use(cpu);
  if (cpu.mxcsr != kMxcsrReset) saved |= wanted & kSse;
  Area area;
  if (saved & kX87) add_x87(cpu, area, plan.rex_w);
  if (saved & kSse) {
    add_xmm(cpu, area);
    add_mxcsr(cpu, area);
  }
  if (saved & kAvx) add_avx(cpu, area);
  add_header(area, {saved, wanted | kCompacted, {}}, 16);
  return commit(cpu, linear, area) ? Outcome::Next : Outcome::Fault;
}

// What XRSTOR and XRSTORS demand of the header (SDM 1 §13.12, §13.13).
bool header_allowed(const Cpu &cpu, const Header &h, u64 allowed, bool supervisor) {
  const auto zero = [&](unsigned from) {
    return std::all_of(h.reserved + from, h.reserved + 6, [](u64 v) { return !v; });
  };
  if (h.xcomp_bv & kCompacted) {
    if (!cpu.profile->has(Feature::xsavec)) return false;
    const u64 components = h.xcomp_bv & ~kCompacted;
    return !(components & ~allowed) && !(h.xstate_bv & ~components) && zero(0);
  }
  return !supervisor && !h.xcomp_bv && !h.reserved[0] && !(h.xstate_bv & ~allowed);
}

void initialize_vectors(Cpu &cpu, unsigned half) {
  for (unsigned n = 0; n < vector_count(cpu); ++n) std::memset(cpu.ymm[n] + half * 16, 0, 16);
}

void initialize_component_x87(Cpu &cpu) {
  unload_x87(cpu);
  std::memset(cpu.x87, 0, kXmmOffset);
  image(cpu).fcw = kFcwReset;
  cpu.x87_cs = cpu.x87_ds = 0;
}

void load_components(Cpu &cpu, const Plan &plan, const u8 *area, u64 wanted, u64 present, bool compacted) {
  if (wanted & kX87) present &kX87 ? unpack_x87(cpu, area, plan.rex_w) : initialize_component_x87(cpu);
  if (wanted & kSse) present &kSse ? unpack_xmm(cpu, area) : initialize_vectors(cpu, 0);
  if (wanted & kAvx) present &kAvx ? unpack_avx(cpu, area) : initialize_vectors(cpu, 1);
  // The standard form has MXCSR outside of its components (SDM 1 §13.8.1).
  if (!compacted && wanted & (kSse | kAvx)) set_mxcsr(cpu, mxcsr_in(area));
  if (compacted && wanted & kSse) set_mxcsr(cpu, present & kSse ? mxcsr_in(area) : kMxcsrReset);
}

Outcome restore(Cpu &cpu, const Op &op, const Plan &plan, u64 allowed, bool supervisor) {
  const u64 wanted = requested(cpu, allowed);
  u64 linear = 0;
  if (!begin(cpu, op, kAvxOffset, false, linear)) return Outcome::Fault;
  alignas(64) u8 area[kAreaSize];
  if (!read_linear(cpu, linear, area, kAvxOffset)) return Outcome::Fault;
  Header header;
  std::memcpy(&header, area + kHeaderOffset, sizeof header);
  if (!header_allowed(cpu, header, allowed, supervisor)) return raise(cpu, GP, 0);
  const bool compacted = header.xcomp_bv & kCompacted;
  const u64 present = wanted & header.xstate_bv;
  if (present & kAvx && !read_linear(cpu, linear + kAvxOffset, area + kAvxOffset, kAreaSize - kAvxOffset))
    return Outcome::Fault;
  const bool mxcsr_loaded = compacted ? present & kSse : wanted & (kSse | kAvx);
  if (mxcsr_loaded && mxcsr_in(area) & ~kMxcsrMask) return raise(cpu, GP, 0);
  load_components(cpu, plan, area, wanted, present, compacted);
  return Outcome::Next;
}

// XSAVES and XRSTORS: privileged, and only where VT-x lets them be.
[[nodiscard]] bool supervisor_form(Cpu &cpu, const Op &op, vmx::Instruction what, Outcome &outcome) {
  if (!(cpu.cr4 & cr4::OSXSAVE) || !vmx::enabled_in_guest(cpu, what)) return outcome = raise(cpu, UD), false;
  if (cpu.cpl != 0) return outcome = raise(cpu, GP, 0), false;
  if (cpu.cr0 & cr0::TS) return outcome = not_available(cpu), false;
  if (vmx::intercepts(cpu, op, what)) return outcome = Outcome::Branch, false;
  return true;
}

} // namespace

Outcome fxsave(Cpu &cpu, const Op &op, const Plan &plan) {
  if (cpu.cr0 & (cr0::EM | cr0::TS)) return not_available(cpu);
  u64 linear = 0;
  if (!operand_linear(cpu, op, 512, true, linear)) return Outcome::Fault;
  if (linear & 15) return raise(cpu, GP, 0);
  unload_x87(cpu);
  Area area;
  pack_x87(cpu, area.bytes, plan.rex_w);
  pack_mxcsr(cpu, area.bytes);
  pack_xmm(cpu, area.bytes);
  area.add(0, kXmmOffset + vector_count(cpu) * 16);
  return commit(cpu, linear, area) ? Outcome::Next : Outcome::Fault;
}

Outcome fxrstor(Cpu &cpu, const Op &op, const Plan &plan) {
  if (cpu.cr0 & (cr0::EM | cr0::TS)) return not_available(cpu);
  u64 linear = 0;
  if (!operand_linear(cpu, op, 512, false, linear)) return Outcome::Fault;
  if (linear & 15) return raise(cpu, GP, 0);
  alignas(16) u8 area[512];
  if (!read_linear(cpu, linear, area, sizeof area)) return Outcome::Fault;
  if (mxcsr_in(area) & ~kMxcsrMask) return raise(cpu, GP, 0);
  unpack_x87(cpu, area, plan.rex_w);
  unpack_xmm(cpu, area);
  set_mxcsr(cpu, mxcsr_in(area));
  return Outcome::Next;
}

Outcome xsave(Cpu &cpu, const Op &op, const Plan &plan) { return save_standard(cpu, op, plan, false); }
Outcome xsaveopt(Cpu &cpu, const Op &op, const Plan &plan) { return save_standard(cpu, op, plan, true); }
Outcome xsavec(Cpu &cpu, const Op &op, const Plan &plan) { return save_compacted(cpu, op, plan, cpu.xcr0); }

Outcome xsaves(Cpu &cpu, const Op &op, const Plan &plan) {
  Outcome outcome;
  if (!supervisor_form(cpu, op, vmx::Instruction::Xsaves, outcome)) return outcome;
  return save_compacted(cpu, op, plan, cpu.xcr0 | cpu.msr.xss);
}

Outcome xrstor(Cpu &cpu, const Op &op, const Plan &plan) { return restore(cpu, op, plan, cpu.xcr0, false); }

Outcome xrstors(Cpu &cpu, const Op &op, const Plan &plan) {
  Outcome outcome;
  if (!supervisor_form(cpu, op, vmx::Instruction::Xrstors, outcome)) return outcome;
  return restore(cpu, op, plan, cpu.xcr0 | cpu.msr.xss, true);
}

} // namespace abyme::soft::hostexec
