// What hostexec keeps in a vCPU: gates, MXCSR, the state after RESET.
#include "soft/hostexec/arena.hpp"
#include "soft/hostexec/hostexec.hpp"
#include "soft/hostexec/mxcsr.hpp"
#include "soft/hostexec/x87.hpp"

namespace abyme::soft::hostexec {

using namespace x86;

void create(Cpu &cpu) { cpu.arena = new Arena; }

void destroy(Cpu &cpu) {
  delete cpu.arena;
  cpu.arena = nullptr;
}

bool full(const Cpu &cpu) { return cpu.arena->full(); }
void clear(Cpu &cpu) { cpu.arena->clear(); }

void update_gates(Cpu &cpu) {
  const bool no_vex = cpu.mode & (kModeReal | kModeV86);
  const bool em = cpu.cr0 & cr0::EM, ts = cpu.cr0 & cr0::TS;
  u8 gates = cpu.x87_live ? 0 : kGateX87Cold;
  if (em || ts) gates |= kGateX87;
  if (em || ts || !(cpu.cr4 & cr4::OSFXSR)) gates |= kGateSse;
  if (no_vex) gates |= kGateVex;
  if (no_vex || ts || !(cpu.cr4 & cr4::OSXSAVE) || (cpu.xcr0 & 6) != 6) gates |= kGateAvx;
  if ((cpu.mxcsr & kMxcsrAllMasked) != kMxcsrAllMasked) gates |= kGateUnmasked;
  cpu.gates = gates;
}

void enter(Cpu &cpu) { load_host_mxcsr(cpu); }

void leave(Cpu &cpu) {
  unload_x87(cpu);
  sync_mxcsr(cpu);
  load_mxcsr(kMxcsrReset);
}

void sync_mxcsr(Cpu &cpu) { cpu.mxcsr |= store_mxcsr() & kMxcsrFlags; }

void set_mxcsr(Cpu &cpu, u32 value) {
  cpu.mxcsr = value;
  load_host_mxcsr(cpu);
  update_gates(cpu);
}

void reset(Cpu &cpu) {
  std::memset(cpu.x87, 0, sizeof cpu.x87);
  initialize_x87(cpu);
  image(cpu).fcw = 0x40;
  image(cpu).tags = 0xFF;
  std::memset(cpu.ymm, 0, sizeof cpu.ymm);
  cpu.mxcsr = kMxcsrReset;
  update_gates(cpu);
}

} // namespace abyme::soft::hostexec
