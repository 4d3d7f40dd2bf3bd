#include "soft/system/segment_load.hpp"
#include "soft/mmu/access.hpp"

namespace abyme::soft::system {

using x86::Segment;

void load_real_segment(Cpu &cpu, u8 segment, u16 selector) {
  Segment &s = cpu.segments[segment];
  if (!s.usable()) s.limit = 0xFFFF;
  // Limit and size stay what protected mode left there ("big real mode").
  s.rights = (s.rights & ~(Segment::kUnusable | 0xFF)) | 0x93;
  s.base = static_cast<u64>(selector) << 4;
  s.selector = selector;
}

void load_v86_segment(Cpu &cpu, u8 segment, u16 selector) {
  cpu.segments[segment] = {static_cast<u64>(selector) << 4, 0xFFFF, 0xF3, selector};
}

void load_null_segment(Cpu &cpu, u8 segment, u16 selector) {
  cpu.segments[segment] = {0, 0, Segment::kUnusable, selector};
}

Segment null_stack_segment(u16 selector, u8 cpl) {
  return {0, 0, Segment::kUnusable | static_cast<u32>(cpl) << 5, selector};
}

bool read_stack_segment(Cpu &cpu, u16 selector, StackRule rule, Descriptor &d) {
  u32 error = selector_error(selector, rule.ext);
  if (!read_descriptor(cpu, selector, d, rule.vector, rule.ext)) return false;
  if ((selector & 3) != rule.cpl || d.dpl() != rule.cpl || !d.writable_data()) return fail(cpu, rule.vector, error);
  if (!d.present()) return fail(cpu, x86::SS_, error);
  return mark_accessed(cpu, d);
}

namespace {

bool load_ss(Cpu &cpu, u16 selector) {
  if (is_null(selector)) {
    if (!cpu.code64() || cpu.cpl == 3 || (selector & 3) != cpu.cpl) return fail(cpu, x86::GP, 0);
    cpu.segments[x86::SS] = null_stack_segment(selector, cpu.cpl);
    return true;
  }
  Descriptor d;
  if (!read_stack_segment(cpu, selector, {cpu.cpl}, d)) return false;
  cpu.segments[x86::SS] = d.segment(selector);
  return true;
}

bool load_data(Cpu &cpu, u8 segment, u16 selector) {
  if (is_null(selector)) {
    load_null_segment(cpu, segment, selector);
    return true;
  }
  Descriptor d;
  if (!read_descriptor(cpu, selector, d)) return false;
  u32 error = selector_error(selector);
  if (!d.readable()) return fail(cpu, x86::GP, error);
  if (!d.conforming() && ((selector & 3) > d.dpl() || cpu.cpl > d.dpl())) return fail(cpu, x86::GP, error);
  if (!d.present()) return fail(cpu, x86::NP, error);
  if (!mark_accessed(cpu, d)) return false;
  cpu.segments[segment] = d.segment(selector);
  return true;
}

} // namespace

bool load_segment(Cpu &cpu, u8 segment, u16 selector) {
  if (!cpu.protected_mode())
    load_real_segment(cpu, segment, selector);
  else if (cpu.v86())
    load_v86_segment(cpu, segment, selector);
  else if (!(segment == x86::SS ? load_ss(cpu, selector) : load_data(cpu, segment, selector)))
    return false;
  mode_changed(cpu);
  return true;
}

// The base stays, as on silicon: a nested hypervisor enters its guest's kernel with null FS and GS that are usable at DPL 0 but have the
// bases of user code, which must survive the return to it.
void drop_inner_segments(Cpu &cpu) {
  for (u8 i : {x86::ES, x86::DS, x86::FS, x86::GS}) {
    Segment &s = cpu.segments[i];
    bool conforming_code = (s.type() & 12) == 12;
    if (!s.usable() || conforming_code || s.dpl() >= cpu.cpl) continue;
    const u64 base = s.base;
    load_null_segment(cpu, i, 0);
    s.base = base;
  }
}

void load_cs(Cpu &cpu, const Descriptor &d, u16 selector, u8 cpl) {
  cpu.segments[x86::CS] = d.segment(static_cast<u16>((selector & ~3) | cpl));
  cpu.cpl = cpl;
}

} // namespace abyme::soft::system
