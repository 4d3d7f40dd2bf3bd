#include "soft/mmu/watch.hpp"
#include "soft/mmu/access.hpp"
#include "soft/mmu/mmu.hpp"

namespace abyme::soft::mmu {
namespace {

enum class Kind : u8 { Execute = 0, Write = 1, Io = 2, ReadWrite = 3 }; // DR7.R/Wn

bool enabled(const Cpu &cpu, unsigned n) { return cpu.dr7 >> (2 * n) & 3; }
Kind kind(const Cpu &cpu, unsigned n) { return static_cast<Kind>(cpu.dr7 >> (16 + 4 * n) & 3); }
u64 length(const Cpu &cpu, unsigned n) {
  static constexpr u8 kLengths[4] = {1, 2, 8, 4}; // DR7.LENn
  return kLengths[cpu.dr7 >> (18 + 4 * n) & 3];
}
bool is_data(Kind k) { return k == Kind::Write || k == Kind::ReadWrite; }

// The low bits of the address that the length covers do not count.
bool overlaps(const Cpu &cpu, unsigned n, u64 start, u64 size) {
  const u64 first = cpu.dr[n] & ~(length(cpu, n) - 1);
  return start < first + length(cpu, n) && first < start + size;
}

void met(Cpu &cpu, u64 bits) {
  if (bits == 0) return;
  cpu.pending_debug |= bits;
  cpu.need(kAttentionEvents);
}

} // namespace

void update_watch(Cpu &cpu) {
  Watch &watch = cpu.mmu->watch;
  if (!breakpoints_enabled(cpu)) {
    watch = {};
    return;
  }
  cpu.need(kAttentionEvents);
  const Watch now{.enabled = cpu.dr7, .at = {cpu.dr[0], cpu.dr[1], cpu.dr[2], cpu.dr[3]}, .vpid = cpu.vpid};
  if (now == watch) return;
  watch = now;
  for (unsigned n = 0; n < 4; n++)
    if (enabled(cpu, n) && is_data(kind(cpu, n))) forget_page(cpu, cpu.dr[n]);
}

bool watched_page(const Cpu &cpu, u64 linear) {
  for (unsigned n = 0; n < 4; n++)
    if (enabled(cpu, n) && is_data(kind(cpu, n)) && ((cpu.dr[n] ^ linear) & kPageMask) == 0) return true;
  return false;
}

void note_access(Cpu &cpu, u64 linear, unsigned size, bool write) {
  u64 bits = 0;
  for (unsigned n = 0; n < 4; n++) {
    const bool wanted = kind(cpu, n) == Kind::ReadWrite || (kind(cpu, n) == Kind::Write && write);
    if (enabled(cpu, n) && wanted && overlaps(cpu, n, linear, size)) bits |= 1u << n;
  }
  met(cpu, bits);
}

void note_io(Cpu &cpu, u16 port, unsigned size) {
  if (!(cpu.cr4 & x86::cr4::DE)) return;
  u64 bits = 0;
  for (unsigned n = 0; n < 4; n++)
    if (enabled(cpu, n) && kind(cpu, n) == Kind::Io && overlaps(cpu, n, port, size)) bits |= 1u << n;
  met(cpu, bits);
}

u64 instruction_breakpoints(const Cpu &cpu, u64 linear) {
  u64 bits = 0;
  for (unsigned n = 0; n < 4; n++)
    if (enabled(cpu, n) && kind(cpu, n) == Kind::Execute && cpu.dr[n] == linear) bits |= 1u << n;
  return bits;
}

} // namespace abyme::soft::mmu
