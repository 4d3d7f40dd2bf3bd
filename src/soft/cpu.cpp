#include "soft/cpu.hpp"
#include "soft/hostexec/hostexec.hpp"
#include "soft/mmu/access.hpp"

namespace abyme::soft {
namespace {

using namespace x86;

// A segment whose offsets are linear addresses and whose checks cannot fail.
bool flat(const Segment &s, bool writable) {
  const bool code = s.rights & 8;
  const bool allowed = code ? (s.rights & 2) && !writable : (s.rights & 2) && !(s.rights & 4);
  return s.usable() && s.base == 0 && s.limit == ~0u && allowed;
}

u32 mode_of(const Cpu &cpu) {
  u32 mode = cpu.cpl == 3 ? static_cast<u32>(kModeUser) : 0;
  const Segment &cs = cpu.segments[CS];
  if (cpu.long_mode()) mode |= kModeLong;
  if (!cpu.protected_mode()) mode |= kModeReal;
  if (cpu.v86()) mode |= kModeV86;
  if (cpu.long_mode() && cs.is_long()) return mode | kModeCode64 | kModeFlat;
  if (cs.big()) mode |= kModeCode32;
  if (cpu.segments[SS].big()) mode |= kModeStack32;
  const bool all_flat = flat(cs, false) && flat(cpu.segments[SS], true) && flat(cpu.segments[DS], true) && flat(cpu.segments[ES], true);
  if (all_flat && !(mode & (kModeReal | kModeV86))) mode |= kModeFlat;
  return mode;
}

} // namespace

void mode_changed(Cpu &cpu) {
  cpu.mode = mode_of(cpu);
  mmu::select_context(cpu);
  hostexec::update_gates(cpu);
  if (cpu.rflags_rest & (rflags::TF | rflags::RF)) cpu.need(kAttentionEvents);
  if ((cpu.rflags_rest & rflags::IF) && cpu.interrupt_waiting) cpu.need(kAttentionInterrupt);
}

Outcome raise(Cpu &cpu, u8 vector) {
  cpu.fault = {.kind = Fault::Kind::Exception, .event = {.vector = vector}};
  return Outcome::Fault;
}

Outcome raise(Cpu &cpu, u8 vector, u32 error) {
  cpu.fault = {.kind = Fault::Kind::Exception, .event = {.vector = vector, .has_error = true, .error = error}};
  return Outcome::Fault;
}

Outcome raise_internal(Cpu &cpu, const char *text) {
  cpu.fault = {.kind = Fault::Kind::InternalError, .event = {}, .text = text};
  return Outcome::Fault;
}

u64 tsc(const Cpu &cpu) { return cpu.clock->now() + static_cast<u64>(cpu.tsc_offset); }

} // namespace abyme::soft
