#include "kvm/state.hpp"
#include <fmt/format.h>
#include <iterator>
#include <utility>

namespace abyme::kvm {
namespace {

using namespace x86;

kvm_segment to_kvm(const Segment &s) {
  kvm_segment out{};
  out.base = s.base;
  out.limit = s.limit;
  out.selector = s.selector;
  out.type = static_cast<u8>(s.type());
  out.s = (s.rights & Segment::kSystemBit) != 0;
  out.dpl = static_cast<u8>(s.dpl());
  out.present = (s.rights & Segment::kPresent) != 0;
  out.avl = (s.rights & Segment::kAvl) != 0;
  out.l = s.is_long();
  out.db = s.big();
  out.g = (s.rights & Segment::kGranularity) != 0;
  out.unusable = !s.usable();
  return out;
}

Segment from_kvm(const kvm_segment &s) {
  const auto bit = [](u8 on, u32 mask) { return on ? mask : 0; };
  const u32 rights = (s.type & 15u) | bit(s.s, Segment::kSystemBit) | (s.dpl & 3u) << 5 |
                     bit(s.present, Segment::kPresent) | bit(s.avl, Segment::kAvl) | bit(s.l, Segment::kLong) |
                     bit(s.db, Segment::kBig) | bit(s.g, Segment::kGranularity) | bit(s.unusable, Segment::kUnusable);
  return {.base = s.base, .limit = s.limit, .rights = rights, .selector = s.selector};
}

// KVM's registers in the order of their encoding.
template <class Regs> auto in_encoding_order(Regs &r) {
  return std::array{&r.rax, &r.rcx, &r.rdx, &r.rbx, &r.rsp, &r.rbp, &r.rsi, &r.rdi,
                    &r.r8,  &r.r9,  &r.r10, &r.r11, &r.r12, &r.r13, &r.r14, &r.r15};
}
template <class Sregs> auto segments_in_encoding_order(Sregs &s) {
  return std::array{&s.es, &s.cs, &s.ss, &s.ds, &s.fs, &s.gs};
}

} // namespace

void to_kvm(const CpuState &state, kvm_regs &regs, kvm_sregs &sregs) {
  const auto gprs = in_encoding_order(regs);
  for (size_t i = 0; i < gprs.size(); ++i) *gprs[i] = state.gpr[i];
  regs.rip = state.rip;
  regs.rflags = state.rflags;
  const auto segments = segments_in_encoding_order(sregs);
  for (size_t i = 0; i < segments.size(); ++i) *segments[i] = to_kvm(state.segments[i]);
  sregs.ldt = to_kvm(state.ldtr);
  sregs.tr = to_kvm(state.tr);
  sregs.gdt.base = state.gdtr.base, sregs.gdt.limit = state.gdtr.limit;
  sregs.idt.base = state.idtr.base, sregs.idt.limit = state.idtr.limit;
  sregs.cr0 = state.cr0, sregs.cr2 = state.cr2, sregs.cr3 = state.cr3, sregs.cr4 = state.cr4, sregs.cr8 = state.cr8;
  sregs.efer = state.efer;
}

CpuState from_kvm(const kvm_regs &regs, const kvm_sregs &sregs) {
  CpuState state;
  const auto gprs = in_encoding_order(regs);
  for (size_t i = 0; i < gprs.size(); ++i) state.gpr[i] = *gprs[i];
  state.rip = regs.rip;
  state.rflags = regs.rflags;
  const auto segments = segments_in_encoding_order(sregs);
  for (size_t i = 0; i < segments.size(); ++i) state.segments[i] = from_kvm(*segments[i]);
  state.ldtr = from_kvm(sregs.ldt);
  state.tr = from_kvm(sregs.tr);
  state.gdtr = {.base = sregs.gdt.base, .limit = sregs.gdt.limit};
  state.idtr = {.base = sregs.idt.base, .limit = sregs.idt.limit};
  state.cr0 = sregs.cr0, state.cr2 = sregs.cr2, state.cr3 = sregs.cr3, state.cr4 = sregs.cr4, state.cr8 = sregs.cr8;
  state.efer = sregs.efer;
  return state;
}

std::string dump(const CpuState &s) {
  static constexpr const char *kGprNames[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                              "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
  static constexpr const char *kSegmentNames[] = {"es", "cs", "ss", "ds", "fs", "gs"};
  std::string out;
  auto to = std::back_inserter(out);
  fmt::format_to(to, "rip {:016x} rflags {:08x}\n", s.rip, s.rflags);
  for (size_t i = 0; i < kGprs; ++i)
    fmt::format_to(to, "{:3} {:016x}{}", kGprNames[i], s.gpr[i], i % 4 == 3 ? "\n" : "  ");
  const auto segment = [&to](const char *name, const Segment &x) {
    fmt::format_to(to, "{:4} {:04x} base {:016x} limit {:08x} rights {:05x}\n", name, x.selector, x.base, x.limit,
                   x.rights);
  };
  for (size_t i = 0; i < kSegments; ++i) segment(kSegmentNames[i], s.segments[i]);
  segment("ldtr", s.ldtr);
  segment("tr", s.tr);
  fmt::format_to(to, "gdtr {:016x} {:04x}  idtr {:016x} {:04x}\n", s.gdtr.base, s.gdtr.limit, s.idtr.base,
                 s.idtr.limit);
  fmt::format_to(to, "cr0 {:08x}  cr2 {:016x}  cr3 {:016x}  cr4 {:08x}  cr8 {:x}  efer {:x}\n", s.cr0, s.cr2, s.cr3,
                 s.cr4, s.cr8, s.efer);
  return out;
}

} // namespace abyme::kvm
