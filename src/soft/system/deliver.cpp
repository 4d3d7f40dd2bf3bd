#include "soft/system/deliver.hpp"
#include "soft/system/system.hpp"

namespace abyme::soft::system {

using namespace x86;

bool deliver(Cpu &cpu, const Event &event) {
  if (!cpu.protected_mode()) return deliver_real(cpu, event);
  return cpu.long_mode() ? deliver_long(cpu, event) : deliver_protected(cpu, event);
}

u64 pushed_flags(const Cpu &cpu, const Event &event) {
  // Vectors of the fault class (SDM 3A table 6-1). A #DB is one only for general detect: breakpoints on instructions
  // leave RF alone.
  constexpr u32 kFaults = 1 << DE | 1 << BR | 1 << UD | 1 << NM | 1 << TS | 1 << NP | 1 << SS_ | 1 << GP | 1 << PF |
                          1 << MF | 1 << AC | 1 << XM | 1 << VE | 1 << CP;
  constexpr u64 kGeneralDetect = 1 << 13;
  u64 flags = rflags(cpu);
  if (event.type != EventType::HardwareException || event.vector > 31) return flags;
  bool fault = kFaults >> event.vector & 1 || (event.vector == DB && event.address & kGeneralDetect);
  return fault ? flags | rflags::RF : flags;
}

void enter_handler(Cpu &cpu, const Event &event, Entry entry) {
  set_rflags(cpu, rflags(cpu) & ~entry.clear);
  cpu.rip = entry.rip;
  cpu.shadow = 0;
  if (event.type == EventType::Nmi) cpu.nmi_blocked = true;
  mode_changed(cpu);
}

bool check_gate(Cpu &cpu, const Event &event, const Descriptor &gate) {
  if (is_software(event) && gate.dpl() < cpu.cpl) return fail(cpu, GP, idt_error(event));
  if (!gate.present()) return fail(cpu, NP, idt_error(event));
  return true;
}

bool read_handler_code(Cpu &cpu, u16 selector, u32 ext, Descriptor &code) {
  if (is_null(selector)) return fail(cpu, GP, ext);
  if (!read_descriptor(cpu, selector, code, GP, ext)) return false;
  if (!code.is_code() || code.dpl() > cpu.cpl) return fail(cpu, GP, selector_error(selector, ext));
  return true;
}

} // namespace abyme::soft::system
