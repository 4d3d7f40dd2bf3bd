#pragma once
#include "soft/cpu.hpp"

// Breakpoints of DR0 to DR3 (SDM 3B §18.2). While one is enabled the vCPU executes single instructions, and the pages
// with a watched address are in no TLB, so that each access to them comes by here.
namespace abyme::soft::mmu {

// The registers that the watch was made from.
struct Watch {
  u64 enabled = 0; // DR7, where it enables a breakpoint
  u64 at[4] = {};
  u16 vpid = 0;
  bool operator==(const Watch &) const = default;
};

[[nodiscard]] inline bool breakpoints_enabled(const Cpu &cpu) { return cpu.dr7 & 0xFF; }
// Follows DR0 to DR3, DR7 and the VPID; to be called when one may have changed.
void update_watch(Cpu &cpu);
// Whether a page holds a watched address.
[[nodiscard]] bool watched_page(const Cpu &cpu, u64 linear);
// Notes the data breakpoints that an access meets: their trap follows the instruction.
void note_access(Cpu &cpu, u64 linear, unsigned size, bool write);
// The same for I/O ports, where CR4.DE has them.
void note_io(Cpu &cpu, u16 port, unsigned size);
// DR6 bits of the instruction breakpoints at an address.
[[nodiscard]] u64 instruction_breakpoints(const Cpu &cpu, u64 linear);

} // namespace abyme::soft::mmu
