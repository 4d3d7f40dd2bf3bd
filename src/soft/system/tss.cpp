#include "soft/system/tss.hpp"
#include "soft/mmu/access.hpp"
#include "soft/system/system.hpp"

namespace abyme::soft::system {

using namespace x86;

bool read_tss(Cpu &cpu, u32 offset, void *to, unsigned size, bool &inside) {
  inside = cpu.tr.usable() && static_cast<u64>(offset) + size - 1 <= cpu.tr.limit;
  return !inside || read_linear(cpu, cpu.tr.base + offset, to, size, As::Supervisor);
}

bool read_tss_rsp(Cpu &cpu, u32 offset, u32 ext, u64 &rsp) {
  bool inside;
  if (!read_tss(cpu, offset, &rsp, 8, inside)) return false;
  if (!inside) return fail(cpu, TS, selector_error(cpu.tr.selector, ext));
  return canonical(cpu, rsp) || fail(cpu, SS_, ext);
}

bool read_tss_stack(Cpu &cpu, u8 cpl, u32 ext, u16 &ss, u32 &esp) {
  bool wide = tss_is_32(cpu), inside;
  u32 words[2] = {};
  u16 *narrow = reinterpret_cast<u16 *>(words);
  u32 offset = wide ? cpl * 8u + 4 : cpl * 4u + 2;
  if (!read_tss(cpu, offset, words, wide ? 6 : 4, inside)) return false;
  if (!inside) return fail(cpu, TS, selector_error(cpu.tr.selector, ext));
  esp = wide ? words[0] : narrow[0];
  ss = wide ? static_cast<u16>(words[1]) : narrow[1];
  return true;
}

namespace {

constexpr u32 kIoMapBase = 0x66;

bool io_map_base(Cpu &cpu, u16 &base, bool &inside) { return read_tss(cpu, kIoMapBase, &base, 2, inside); }

} // namespace

bool read_redirection(Cpu &cpu, u8 vector, bool &redirected) {
  redirected = true;
  u16 base;
  bool inside = tss_is_32(cpu);
  if (!inside) return fail(cpu, GP, 0);
  if (!io_map_base(cpu, base, inside)) return false;
  u8 bits;
  // The map's 32 bytes lie below the I/O permission bitmap.
  u32 offset = base - 32u + vector / 8u;
  if (!inside || base < 32 || offset > 0xFFFF) return fail(cpu, GP, 0);
  if (!read_tss(cpu, offset, &bits, 1, inside)) return false;
  if (!inside) return fail(cpu, GP, 0);
  redirected = bits >> (vector & 7) & 1;
  return true;
}

bool io_allowed(Cpu &cpu, u16 port, unsigned size) {
  if (!cpu.protected_mode() || (!cpu.v86() && cpu.cpl <= cpu.iopl())) return true;
  u16 base, bits = 0;
  bool inside = tss_is_32(cpu);
  if (!inside) return fail(cpu, GP, 0);
  if (!io_map_base(cpu, base, inside)) return false;
  // Two bytes are always read, so that the byte after the bitmap's last must lie in the segment too (SDM 1 §19.5.2).
  if (!inside) return fail(cpu, GP, 0);
  if (!read_tss(cpu, base + port / 8u, &bits, 2, inside)) return false;
  unsigned mask = (1u << size) - 1;
  if (!inside || (bits >> (port & 7) & mask)) return fail(cpu, GP, 0);
  return true;
}

} // namespace abyme::soft::system
