// VMREAD and VMWRITE, of the current VMCS or, under VMCS shadowing, of the shadow VMCS (SDM 3C §25.10, §31.3).
#include "soft/mmu/access.hpp"
#include "soft/vmx/instruction_information.hpp"
#include "soft/vmx/status.hpp"

namespace abyme::soft::vmx {
namespace {

using x86::ExitReason;
using x86::VmxError;

[[nodiscard]] unsigned operand_size(const Cpu &cpu) { return cpu.code64() ? 8 : 4; }

[[nodiscard]] u64 register_value(const Cpu &cpu, u8 slot) {
  const u64 value = cpu.gpr[register_number(slot)];
  return cpu.code64() ? value : static_cast<u32>(value);
}

void set_register(Cpu &cpu, u8 slot, u64 value) {
  cpu.gpr[register_number(slot)] = cpu.code64() ? value : static_cast<u32>(value);
}

// Whether the bitmap (or the encoding, which it covers only up to bit 14) makes the access exit.
[[nodiscard]] bool bitmap_exits(const Cpu &cpu, Field bitmap, u64 encoding) {
  if (!secondary_on(cpu, x86::secondary::VmcsShadowing) || encoding >> 15) return true;
  const u8 byte = load_physical<u8>(cpu, cpu.vmx->vmcs[bitmap] + (encoding >> 3));
  return byte >> (encoding & 7) & 1;
}

// As preamble(), but in non-root operation the bitmap decides on the VM exit.
[[nodiscard]] std::optional<Outcome> shadowed_preamble(Cpu &cpu, const Op &op, ExitReason reason, Field bitmap,
                                                       u64 encoding) {
  if (!non_root(cpu)) return preamble(cpu, op, reason);
  if (!mode_has_vmx(cpu)) return raise(cpu, x86::UD);
  if (bitmap_exits(cpu, bitmap, encoding))
    return exit_for_instruction(cpu, op, reason, displacement(cpu, op), with_second_register(op));
  if (cpu.cpl != 0) return raise(cpu, x86::GP, 0);
  return std::nullopt;
}

// The VMCS that an access is to: cached while current, in memory when it is the shadow VMCS.
struct Target {
  Cpu &cpu;
  u64 shadow_address = x86::kNoVmcs; // in non-root operation

  [[nodiscard]] bool exists() const { return non_root(cpu) ? shadow_address != x86::kNoVmcs : cpu.vmx->vmcs.valid(); }
  [[nodiscard]] u64 read(Field f) const {
    if (!non_root(cpu)) return cpu.vmx->vmcs[f];
    return load_physical<u64>(cpu, shadow_address + region_offset(f)) & x86::describe(f).mask();
  }
  void write(Field f, u64 value) const {
    if (!non_root(cpu))
      cpu.vmx->vmcs[f] = value;
    else
      store_physical(cpu, shadow_address + region_offset(f), value);
  }
  Outcome fail_with(VmxError error) const {
    if (!non_root(cpu)) return fail(cpu, error);
    write(Field::InstructionError, static_cast<u64>(error));
    cpu.status = pack_status(x86::rflags::ZF);
    return Outcome::Next;
  }
};

[[nodiscard]] Target target(Cpu &cpu) {
  return {cpu, non_root(cpu) ? cpu.vmx->vmcs[Field::VmcsLinkPointer] : x86::kNoVmcs};
}

// The field that an encoding names on this CPU model, or kCount.
[[nodiscard]] Field supported_field(const Cpu &cpu, u64 encoding) {
  const Field f = x86::find_vmcs_field(encoding);
  return field_exists(cpu, f) && x86::access_type_valid(f, encoding) ? f : Field::kCount;
}

[[nodiscard]] bool writable(const Cpu &cpu, Field f) {
  constexpr u64 kWriteAnyField = 1 << 29; // of IA32_VMX_MISC
  return x86::describe(f).type() != x86::VmcsFieldType::ReadOnly || (cpu.vmx->capabilities.misc & kWriteAnyField);
}

[[nodiscard]] u64 merge(u64 old, u64 value, u64 encoding, Field f) {
  if (x86::is_high_access(encoding)) return (old & 0xFFFF'FFFF) | value << 32;
  return value & x86::describe(f).mask();
}

} // namespace

Outcome vmread(Cpu &cpu, const Op &op) {
  const u64 encoding = register_value(cpu, op.reg);
  if (const auto outcome = shadowed_preamble(cpu, op, ExitReason::Vmread, Field::VmreadBitmap, encoding))
    return *outcome;
  const Target vmcs = target(cpu);
  if (!vmcs.exists()) return fail_invalid(cpu);
  const Field f = supported_field(cpu, encoding);
  if (f == Field::kCount) return vmcs.fail_with(VmxError::UnsupportedField);
  u64 value = vmcs.read(f);
  if (x86::is_high_access(encoding)) value >>= 32;
  if (!(op.flags & kOpMemory))
    set_register(cpu, op.rm, value);
  else if (!write_operand(cpu, op, &value, operand_size(cpu)))
    return Outcome::Fault;
  return succeed(cpu);
}

Outcome vmwrite(Cpu &cpu, const Op &op) {
  const u64 encoding = register_value(cpu, op.reg);
  if (const auto outcome = shadowed_preamble(cpu, op, ExitReason::Vmwrite, Field::VmwriteBitmap, encoding))
    return *outcome;
  const Target vmcs = target(cpu);
  if (!vmcs.exists()) return fail_invalid(cpu);
  u64 value = 0;
  if (!(op.flags & kOpMemory))
    value = register_value(cpu, op.rm);
  else if (!read_operand(cpu, op, &value, operand_size(cpu)))
    return Outcome::Fault;
  const Field f = supported_field(cpu, encoding);
  if (f == Field::kCount) return vmcs.fail_with(VmxError::UnsupportedField);
  if (!writable(cpu, f)) return vmcs.fail_with(VmxError::VmwriteReadOnly);
  vmcs.write(f, merge(vmcs.read(f), value, encoding, f));
  return succeed(cpu);
}

} // namespace abyme::soft::vmx
