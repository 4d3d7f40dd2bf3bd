// A VMCS in guest memory: revision identifier, VMX-abort indicator (SDM 3C table 25-1), then our own layout.
#include "soft/vmx/state.hpp"

namespace abyme::soft::vmx {
namespace {

constexpr u64 kLaunchStateOffset = 8;
constexpr u32 kLaunched = 1; // everything else counts as clear

static_assert(region_offset(Field::kCount) <= kPageSize);

} // namespace

void write_back(Cpu &cpu) {
  const Vmcs &vmcs = cpu.vmx->vmcs;
  if (!vmcs.valid()) return;
  store_physical(cpu, vmcs.address + kLaunchStateOffset, vmcs.launched ? kLaunched : 0u);
  (void)cpu.memory->write(Gpa(vmcs.address + region_offset({})), vmcs.fields.data(), sizeof vmcs.fields);
}

// The region may hold anything: each value is cut to its field's width, which is all that the rest relies on.
void make_current(Cpu &cpu, u64 address, bool shadow) {
  write_back(cpu);
  Vmcs &vmcs = cpu.vmx->vmcs;
  vmcs.address = address;
  vmcs.shadow = shadow;
  if (!vmcs.valid()) return;
  vmcs.launched = load_physical<u32>(cpu, address + kLaunchStateOffset) == kLaunched;
  if (!cpu.memory->read(Gpa(address + region_offset({})), vmcs.fields.data(), sizeof vmcs.fields))
    vmcs.fields.fill(~0ull);
  for (unsigned i = 0; i < x86::kVmcsFields; i++) vmcs.fields[i] &= x86::kVmcsFieldTable[i].mask();
}

void clear_region(Cpu &cpu, u64 address) {
  Vmcs &vmcs = cpu.vmx->vmcs;
  if (vmcs.address == address) {
    vmcs.launched = false;
    write_back(cpu);
    vmcs.address = x86::kNoVmcs;
    return;
  }
  store_physical(cpu, address + kLaunchStateOffset, 0u);
}

bool field_exists(const Cpu &cpu, Field f) {
  if (f == Field::kCount) return false;
  const auto needs = x86::describe(f).needs;
  return needs == x86::VmxFeature::kCount || cpu.profile->has(needs);
}

} // namespace abyme::soft::vmx
