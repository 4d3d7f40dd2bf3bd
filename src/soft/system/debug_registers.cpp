#include "soft/system/instructions.hpp"
#include "soft/vmx/vmx.hpp"

// MOV to and from DR0 to DR7 (SDM 3B §18.2).
namespace abyme::soft::system {

using namespace x86;

namespace {

constexpr u64 kGeneralDetectEnable = 1 << 13; // DR7.GD
constexpr u64 kGeneralDetected = 1 << 13;     // DR6.BD
constexpr u64 kDr6Fixed = 0xFFFF0FF0, kDr6Writable = 0xE00F;
constexpr u64 kDr7Fixed = 0x400, kDr7Writable = 0xFFFF23FF;

// The checks that both directions make. MOV-DR exiting comes even before the CPL (SDM 3C §26.1.3).
Outcome check(Cpu &cpu, const Op &op, bool write) {
  unsigned dr = op.reg_index;
  if (dr > 7) return raise(cpu, UD);
  if (vmx::intercepts_dr(cpu, op, dr, op.rm / 8, write)) return Outcome::Branch;
  if ((dr == 4 || dr == 5) && cpu.cr4 & cr4::DE) return raise(cpu, UD);
  if (!privileged(cpu)) return Outcome::Fault;
  if (cpu.dr7 & kGeneralDetectEnable) {
    (void)raise(cpu, DB);
    cpu.fault.event.address = kGeneralDetected;
    return Outcome::Fault;
  }
  return Outcome::Next;
}

} // namespace

Outcome mov_to_dr(Cpu &cpu, const Op &op) {
  if (Outcome checked = check(cpu, op, true); checked != Outcome::Next) return checked;
  u64 value = read_register(cpu, op.rm, op.size);
  unsigned dr = op.reg_index;
  if (dr < 4) {
    cpu.dr[dr] = value;
  } else if (value >> 32) {
    return raise(cpu, GP, 0);
  } else if (dr & 1) {
    cpu.dr7 = (value & kDr7Writable) | kDr7Fixed;
  } else {
    cpu.dr6 = (value & kDr6Writable) | kDr6Fixed;
  }
  // Breakpoints may have appeared on pages and in blocks that were free of them.
  mode_changed(cpu);
  cpu.need(kAttentionEvents);
  return end_block(cpu);
}

Outcome mov_from_dr(Cpu &cpu, const Op &op) {
  if (Outcome checked = check(cpu, op, false); checked != Outcome::Next) return checked;
  unsigned dr = op.reg_index;
  u64 value = dr < 4 ? cpu.dr[dr] : dr & 1 ? cpu.dr7 : cpu.dr6;
  write_register(cpu, op.rm, op.size, value);
  return Outcome::Next;
}

} // namespace abyme::soft::system
