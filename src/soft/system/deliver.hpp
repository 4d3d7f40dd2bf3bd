#pragma once
#include "soft/system/descriptor.hpp"

// Delivery of one event through the IDT, a file for each kind of mode. return_rip() is pushed. False: cpu.fault,
// nothing changed.
namespace abyme::soft::system {

[[nodiscard]] bool deliver_real(Cpu &cpu, const Event &event);
[[nodiscard]] bool deliver_protected(Cpu &cpu, const Event &event); // and virtual-8086
[[nodiscard]] bool deliver_long(Cpu &cpu, const Event &event);

// INT n, INT3, INTO: their gates' DPL is checked and their faults have EXT clear. INT1 is not among them (SDM 3A
// §6.12.1.1).
[[nodiscard]] inline bool is_software(const Event &event) {
  return event.type == EventType::SoftwareInterrupt || event.type == EventType::SoftwareException;
}
[[nodiscard]] inline u32 ext_of(const Event &event) { return is_software(event) ? 0 : 1; }
// Error code that names an IDT entry (SDM 3A §6.13).
[[nodiscard]] inline u32 idt_error(const Event &event) { return event.vector * 8u + 2 + ext_of(event); }

// Software events return behind their instruction.
[[nodiscard]] inline u64 return_rip(const Cpu &cpu, const Event &event) {
  bool behind = is_software(event) || event.type == EventType::PrivilegedSoftwareException;
  return cpu.rip + (behind ? event.length : 0);
}

// RFLAGS as the handler's frame shows it: with RF where the instruction will be restarted (SDM 3B §18.3.1.1).
[[nodiscard]] u64 pushed_flags(const Cpu &cpu, const Event &event);

struct Entry {
  u64 clear; // of RFLAGS
  u64 rip;
};
// What all deliveries end with: RIP, RFLAGS, blocking by NMI, the interrupt shadow.
void enter_handler(Cpu &cpu, const Event &event, Entry entry);

constexpr u64 kClearAlways = x86::rflags::TF | x86::rflags::NT | x86::rflags::RF | x86::rflags::VM;

// The gate that `event` selects, with the checks of its type, DPL and presence.
[[nodiscard]] bool check_gate(Cpu &cpu, const Event &event, const Descriptor &gate);
// The code segment that an interrupt or trap gate names, without its presence: null, limit, type, privilege.
[[nodiscard]] bool read_handler_code(Cpu &cpu, u16 selector, u32 ext, Descriptor &code);

} // namespace abyme::soft::system
