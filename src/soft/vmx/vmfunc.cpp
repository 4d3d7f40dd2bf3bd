// VM functions: SDM 3C §26.5.6.
#include "soft/mmu/access.hpp"
#include "soft/vmx/entry_rules.hpp"
#include "soft/vmx/exit.hpp"

namespace abyme::soft::vmx {
namespace {

constexpr u32 kEptpSwitching = 0;

Outcome refuse(Cpu &cpu, const Op &op) { return exit_for_instruction(cpu, op, x86::ExitReason::Vmfunc); }

// SDM 3C §26.5.6.3
Outcome switch_eptp(Cpu &cpu, const Op &op) {
  constexpr u32 kEntries = 512;
  Vmcs &vmcs = cpu.vmx->vmcs;
  const u32 index = static_cast<u32>(cpu.gpr[x86::RCX]);
  if (index >= kEntries) return refuse(cpu, op);
  const u64 eptp = load_physical<u64>(cpu, vmcs[Field::EptpListAddress] + index * 8ull);
  if (!valid_ept_pointer(cpu.vmx->capabilities, eptp)) return refuse(cpu, op);
  vmcs[Field::EptPointer] = cpu.eptp = eptp;
  if (secondary_on(cpu, x86::secondary::EptViolationVe)) vmcs[Field::EptpIndex] = static_cast<u16>(index);
  mmu::select_context(cpu);
  cpu.rip = cpu.next_rip;
  return Outcome::Branch;
}

} // namespace

Outcome vmfunc(Cpu &cpu, const Op &op) {
  if (!secondary_on(cpu, x86::secondary::EnableVmfunc)) return raise(cpu, x86::UD);
  const u32 function = static_cast<u32>(cpu.gpr[x86::RAX]);
  const bool enabled = function < 64 && (cpu.vmx->vmcs[Field::VmFunctionControls] >> function & 1);
  if (!enabled || function != kEptpSwitching) return refuse(cpu, op);
  return switch_eptp(cpu, op);
}

} // namespace abyme::soft::vmx
