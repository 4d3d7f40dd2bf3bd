#include "x86/state.hpp"

namespace abyme::x86 {

CpuState reset_state() {
  CpuState s;
  s.rip = 0xFFF0;
  s.gpr[RDX] = 0x600; // family 6
  for (auto &segment : s.segments) segment = {.base = 0, .limit = 0xFFFF, .rights = 0x93, .selector = 0};
  s.segments[CS] = {.base = 0xFFFF0000, .limit = 0xFFFF, .rights = 0x9B, .selector = 0xF000};
  s.ldtr = {.base = 0, .limit = 0xFFFF, .rights = 0x82, .selector = 0};
  s.tr = {.base = 0, .limit = 0xFFFF, .rights = 0x8B, .selector = 0};
  s.gdtr = s.idtr = {.base = 0, .limit = 0xFFFF};
  s.cr0 = cr0::CD | cr0::NW | cr0::ET;
  return s;
}

} // namespace abyme::x86
