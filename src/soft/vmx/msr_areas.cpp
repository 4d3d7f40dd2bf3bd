// The VM-entry and VM-exit MSR areas: SDM 3C §27.4, §28.4, §28.6.
#include "soft/system/system.hpp"
#include "soft/vmx/exit.hpp"
#include "x86/msr.hpp"

namespace abyme::soft::vmx {
namespace {

using namespace x86::msr;

struct Entry {
  u32 index, reserved;
  u64 data;
};

[[nodiscard]] Entry load_entry(const Cpu &cpu, u64 at) {
  Entry entry;
  if (!cpu.memory->load(Gpa(at), entry)) entry = {~0u, ~0u, ~0ull};
  return entry;
}

// "Bits 31:8 have the value 000008H": what x2APIC mode makes of the APIC is not for these areas.
[[nodiscard]] bool is_x2apic(u32 msr) { return msr >> 8 == 8; }

[[nodiscard]] bool may_load(const Entry &entry) {
  switch (entry.index) {
  case IA32_FS_BASE:
  case IA32_GS_BASE:
  case IA32_SMM_MONITOR_CTL:
  case IA32_BIOS_UPDT_TRIG:
  case IA32_BIOS_SIGN_ID: return false;
  default: return !entry.reserved && !is_x2apic(entry.index);
  }
}

[[nodiscard]] bool may_store(const Entry &entry) {
  return entry.index != IA32_SMBASE && !entry.reserved && !is_x2apic(entry.index);
}

} // namespace

// More entries than IA32_VMX_MISC recommends are not processed: a hostile count must not hold the CPU.
u32 load_msr_area(Cpu &cpu, u64 address, u32 count) {
  for (u32 n = 1; n <= count; n++, address += sizeof(Entry)) {
    if (n > kMaxMsrListEntries) return n;
    const Entry entry = load_entry(cpu, address);
    if (!may_load(entry) || !system::write_msr(cpu, entry.index, entry.data)) return n;
  }
  return 0;
}

u32 store_msr_area(Cpu &cpu, u64 address, u32 count) {
  for (u32 n = 1; n <= count; n++, address += sizeof(Entry)) {
    if (n > kMaxMsrListEntries) return n;
    Entry entry = load_entry(cpu, address);
    if (!may_store(entry) || !system::read_msr(cpu, entry.index, entry.data)) return n;
    store_physical(cpu, address + offsetof(Entry, data), entry.data);
  }
  return 0;
}

} // namespace abyme::soft::vmx
