#include "soft/vmx/status.hpp"

namespace abyme::soft::vmx {

Outcome succeed(Cpu &cpu) {
  cpu.status = 0;
  return Outcome::Next;
}

Outcome fail_invalid(Cpu &cpu) {
  cpu.status = pack_status(x86::rflags::CF);
  return Outcome::Next;
}

Outcome fail(Cpu &cpu, x86::VmxError error) {
  if (!cpu.vmx->vmcs.valid()) return fail_invalid(cpu);
  cpu.vmx->vmcs[Field::InstructionError] = static_cast<u64>(error);
  cpu.status = pack_status(x86::rflags::ZF);
  return Outcome::Next;
}

bool mode_has_vmx(const Cpu &cpu) { return cpu.protected_mode() && !cpu.v86() && (!cpu.long_mode() || cpu.code64()); }

std::optional<Outcome> preamble(Cpu &cpu, const Op &op, x86::ExitReason reason, u64 qualification, u32 information) {
  if (cpu.vmx_mode == VmxMode::Off || !mode_has_vmx(cpu)) return raise(cpu, x86::UD);
  if (non_root(cpu)) return exit_for_instruction(cpu, op, reason, qualification, information);
  if (cpu.cpl != 0) return raise(cpu, x86::GP, 0);
  return std::nullopt;
}

} // namespace abyme::soft::vmx
