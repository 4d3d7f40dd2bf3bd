#pragma once
#include "memory/guest_memory.hpp"
#include "soft/vmx/capabilities.hpp"
#include "soft/vmx/vmx.hpp"
#include "x86/vmcs.hpp"

namespace abyme::soft::vmx {

using Field = x86::VmcsField;

// The n-th field after `first`: for fields that the manual numbers in a row (segments, PDPTEs, CR3 targets).
[[nodiscard]] constexpr Field nth(Field first, unsigned n) {
  return static_cast<Field>(static_cast<unsigned>(first) + n);
}
// Offsets from the ES field of each group of segment fields; ES to GS are x86::Seg.
constexpr unsigned kLdtr = 6, kTr = 7;

// A VMCS while it is current. Its home in guest memory is written when it stops being so (SDM 3C §25.1, §25.11.1).
struct Vmcs {
  u64 address = x86::kNoVmcs;
  bool launched = false;
  bool shadow = false;
  std::array<u64, x86::kVmcsFields> fields{};

  [[nodiscard]] u64 &operator[](Field f) { return fields[static_cast<unsigned>(f)]; }
  [[nodiscard]] const u64 &operator[](Field f) const { return fields[static_cast<unsigned>(f)]; }
  [[nodiscard]] u32 u32_at(Field f) const { return static_cast<u32>((*this)[f]); }
  [[nodiscard]] bool valid() const { return address != x86::kNoVmcs; }
};

// The control words that are in force: secondary controls count as 0 while they are not activated.
struct Controls {
  u32 pin = 0, primary = 0, secondary = 0, exit = 0, entry = 0;
};
[[nodiscard]] inline Controls controls_of(const Vmcs &vmcs) {
  const u32 primary = vmcs.u32_at(Field::PrimaryControls);
  return {.pin = vmcs.u32_at(Field::PinControls),
          .primary = primary,
          .secondary = primary & x86::primary::ActivateSecondary ? vmcs.u32_at(Field::SecondaryControls) : 0,
          .exit = vmcs.u32_at(Field::ExitControls),
          .entry = vmcs.u32_at(Field::EntryControls)};
}

constexpr Nanoseconds kNever = ~0ull;

// The state of VT-x that is not hot enough for Cpu. Only the vCPU's own thread touches it.
struct Vmx {
  Capabilities capabilities;
  u64 vmxon_pointer = x86::kNoVmcs;
  Vmcs vmcs; // the current one

  // --- valid in non-root operation ---
  Controls controls;
  bool monitor_trap = false;         // an MTF VM exit is due at the next boundary
  bool virtual_interrupt = false;    // RVI's class is above VPPR's: recognized, to be delivered when IF allows
  bool tpr_below_threshold = false;  // at VM entry: the exit is due before the first instruction
  bool physical_nmi_blocked = false; // with virtual NMIs, where cpu.nmi_blocked is the virtual blocking
  Nanoseconds preemption_deadline = kNever;
  std::array<u64, 4> checked_pdpte{};  // read and checked once by VM entry, without EPT
  u64 pause_first = 0, pause_last = 0; // TSC of a loop's first and of the last PAUSE
  u64 unblocking_iret = kNever;        // RIP of the IRET that removed NMI blocking
  bool apic_write_pending = false;     // APIC-write emulation is due after the instruction
  u32 apic_write_offset = 0;
};

[[nodiscard]] inline bool non_root(const Cpu &cpu) { return cpu.vmx_mode == VmxMode::NonRoot; }
[[nodiscard]] inline bool primary_on(const Cpu &cpu, u32 bits) {
  return non_root(cpu) && (cpu.vmx->controls.primary & bits);
}
[[nodiscard]] inline bool secondary_on(const Cpu &cpu, u32 bits) {
  return non_root(cpu) && (cpu.vmx->controls.secondary & bits);
}
[[nodiscard]] inline bool pin_on(const Cpu &cpu, u32 bits) { return non_root(cpu) && (cpu.vmx->controls.pin & bits); }

// --- VMCS regions (vmcs_region.cpp) ---
[[nodiscard]] constexpr u64 region_offset(Field f) { return 64 + 8 * static_cast<u64>(f); }
// Makes the region at `address` the current VMCS, after writing the one before back.
void make_current(Cpu &cpu, u64 address, bool shadow);
// Writes the current VMCS to its region; it stays current.
void write_back(Cpu &cpu);
// A region's VMCS becomes clear (VMCLEAR).
void clear_region(Cpu &cpu, u64 address);
[[nodiscard]] bool field_exists(const Cpu &cpu, Field f);

// --- physical memory of this VM: read once, whole; what is not RAM reads as ones and takes no writes ---
template <class T> [[nodiscard]] T load_physical(const Cpu &cpu, u64 at) {
  const u8 *host = cpu.memory->host(Gpa(at), sizeof(T));
  if (!host) return static_cast<T>(~0ull);
  if (at % sizeof(T) == 0) return __atomic_load_n(reinterpret_cast<const T *>(host), __ATOMIC_RELAXED);
  T value;
  std::memcpy(&value, host, sizeof value);
  return value;
}
template <class T> void store_physical(Cpu &cpu, u64 at, T value) { (void)cpu.memory->store(Gpa(at), value); }

} // namespace abyme::soft::vmx
