// VMXON, VMXOFF and the instructions that handle VMCSs as a whole: SDM 3C §31.3.
#include "soft/mmu/access.hpp"
#include "soft/vmx/instruction_information.hpp"
#include "soft/vmx/status.hpp"
#include "x86/msr.hpp"

namespace abyme::soft::vmx {
namespace {

using x86::ExitReason;
using x86::VmxError;

[[nodiscard]] std::optional<Outcome> memory_preamble(Cpu &cpu, const Op &op, ExitReason reason) {
  if (!(op.flags & kOpMemory)) return raise(cpu, x86::UD);
  if (!non_root(cpu)) return preamble(cpu, op, reason);
  return preamble(cpu, op, reason, displacement(cpu, op), memory_information(op));
}

// Bits 11:0 zero, none beyond the physical-address width.
[[nodiscard]] bool valid_region(const Cpu &cpu, u64 address) {
  return !(address & 0xFFF) && address < cpu.vmx->capabilities.physical_limit;
}

[[nodiscard]] bool revision_matches(const Cpu &cpu, u32 revision) {
  const u32 shadow = cpu.profile->has(x86::VmxFeature::vmcs_shadowing) ? x86::kShadowVmcs : 0;
  return (revision & ~shadow) == kRevision;
}

[[nodiscard]] bool may_enter_vmx(const Cpu &cpu) {
  using namespace x86::msr::feature_control;
  constexpr u64 kNeeded = LOCK | VMX_OUTSIDE_SMX;
  return cpu.cpl == 0 && (cpu.cr0 & kCr0Fixed0) == kCr0Fixed0 && !(cpu.cr0 & ~kCr0Fixed1) &&
         !(cpu.cr4 & ~cpu.vmx->capabilities.cr4_fixed1) && (cpu.msr.feature_control & kNeeded) == kNeeded;
}

// SDM 3C VMXON, outside of VMX operation.
Outcome enter_vmx_operation(Cpu &cpu, const Op &op) {
  if (!may_enter_vmx(cpu)) return raise(cpu, x86::GP, 0);
  u64 address;
  if (!read_operand(cpu, op, &address, sizeof address)) return Outcome::Fault;
  if (!valid_region(cpu, address) || load_physical<u32>(cpu, address) != kRevision) return fail_invalid(cpu);
  cpu.vmx->vmxon_pointer = address;
  cpu.vmx->vmcs.address = x86::kNoVmcs;
  cpu.vmx_mode = VmxMode::Root;
  return succeed(cpu);
}

} // namespace

Outcome vmxon(Cpu &cpu, const Op &op) {
  if (!(op.flags & kOpMemory) || !(cpu.cr4 & x86::cr4::VMXE) || !mode_has_vmx(cpu)) return raise(cpu, x86::UD);
  if (cpu.vmx_mode == VmxMode::Off) return enter_vmx_operation(cpu, op);
  if (const auto outcome = memory_preamble(cpu, op, ExitReason::Vmxon)) return *outcome;
  return fail(cpu, VmxError::VmxonInRoot);
}

Outcome vmxoff(Cpu &cpu, const Op &op) {
  if (const auto outcome = preamble(cpu, op, ExitReason::Vmxoff)) return *outcome;
  make_current(cpu, x86::kNoVmcs, false);
  cpu.vmx->vmxon_pointer = x86::kNoVmcs;
  cpu.vmx_mode = VmxMode::Off;
  return succeed(cpu);
}

Outcome vmclear(Cpu &cpu, const Op &op) {
  if (const auto outcome = memory_preamble(cpu, op, ExitReason::Vmclear)) return *outcome;
  u64 address;
  if (!read_operand(cpu, op, &address, sizeof address)) return Outcome::Fault;
  if (!valid_region(cpu, address)) return fail(cpu, VmxError::VmclearInvalidAddress);
  if (address == cpu.vmx->vmxon_pointer) return fail(cpu, VmxError::VmclearVmxonPointer);
  clear_region(cpu, address);
  return succeed(cpu);
}

Outcome vmptrld(Cpu &cpu, const Op &op) {
  if (const auto outcome = memory_preamble(cpu, op, ExitReason::Vmptrld)) return *outcome;
  u64 address;
  if (!read_operand(cpu, op, &address, sizeof address)) return Outcome::Fault;
  if (!valid_region(cpu, address)) return fail(cpu, VmxError::VmptrldInvalidAddress);
  if (address == cpu.vmx->vmxon_pointer) return fail(cpu, VmxError::VmptrldVmxonPointer);
  const u32 revision = load_physical<u32>(cpu, address);
  if (!revision_matches(cpu, revision)) return fail(cpu, VmxError::VmptrldWrongRevision);
  if (address != cpu.vmx->vmcs.address) make_current(cpu, address, revision & x86::kShadowVmcs);
  return succeed(cpu);
}

Outcome vmptrst(Cpu &cpu, const Op &op) {
  if (const auto outcome = memory_preamble(cpu, op, ExitReason::Vmptrst)) return *outcome;
  const u64 address = cpu.vmx->vmcs.address;
  if (!write_operand(cpu, op, &address, sizeof address)) return Outcome::Fault;
  return succeed(cpu);
}

// Unlike the others, VMCALL exits from every mode of a guest.
Outcome vmcall(Cpu &cpu, const Op &op) {
  if (non_root(cpu)) return exit_for_instruction(cpu, op, ExitReason::Vmcall);
  if (const auto outcome = preamble(cpu, op, ExitReason::Vmcall)) return *outcome;
  return fail(cpu, VmxError::VmcallInRoot);
}

} // namespace abyme::soft::vmx
