// INVEPT and INVVPID: SDM 3C §31.3.
#include "soft/mmu/access.hpp"
#include "soft/vmx/entry_rules.hpp"
#include "soft/vmx/instruction_information.hpp"
#include "soft/vmx/status.hpp"

namespace abyme::soft::vmx {
namespace {

using x86::ExitReason;
using x86::VmxError;

struct Descriptor {
  u64 low, high;
};

[[nodiscard]] u64 type_operand(const Cpu &cpu, const Op &op) {
  const u64 value = cpu.gpr[register_number(op.reg)];
  return cpu.code64() ? value : static_cast<u32>(value);
}

[[nodiscard]] std::optional<Outcome> invalidation_preamble(Cpu &cpu, const Op &op, ExitReason reason,
                                                           x86::VmxFeature needs) {
  if (!(op.flags & kOpMemory) || !cpu.profile->has(needs)) return raise(cpu, x86::UD);
  if (!non_root(cpu)) return preamble(cpu, op, reason);
  return preamble(cpu, op, reason, displacement(cpu, op), with_second_register(op));
}

enum class InveptType : u64 { Single = 1, All = 2 };

[[nodiscard]] bool valid_invvpid(const EntryState &state, mmu::InvvpidType type, const Descriptor &d) {
  using enum mmu::InvvpidType;
  if (d.low >> 16) return false;
  if (type == All) return true;
  if (static_cast<u16>(d.low) == 0) return false;
  return type != Address || state.canonical(d.high);
}

} // namespace

Outcome invept(Cpu &cpu, const Op &op) {
  if (const auto outcome = invalidation_preamble(cpu, op, ExitReason::Invept, x86::VmxFeature::ept)) return *outcome;
  const auto type = static_cast<InveptType>(type_operand(cpu, op));
  if (type != InveptType::Single && type != InveptType::All) return fail(cpu, VmxError::InvalidInvalidationOperand);
  Descriptor d;
  if (!read_operand(cpu, op, &d, sizeof d)) return Outcome::Fault;
  if (type == InveptType::Single && !valid_ept_pointer(cpu.vmx->capabilities, d.low))
    return fail(cpu, VmxError::InvalidInvalidationOperand);
  mmu::invalidate_ept(cpu, type == InveptType::All, d.low);
  return succeed(cpu);
}

Outcome invvpid(Cpu &cpu, const Op &op) {
  if (const auto outcome = invalidation_preamble(cpu, op, ExitReason::Invvpid, x86::VmxFeature::vpid)) return *outcome;
  const u64 number = type_operand(cpu, op);
  if (number > static_cast<u64>(mmu::InvvpidType::ContextButGlobals))
    return fail(cpu, VmxError::InvalidInvalidationOperand);
  const auto type = static_cast<mmu::InvvpidType>(number);
  Descriptor d;
  if (!read_operand(cpu, op, &d, sizeof d)) return Outcome::Fault;
  if (!valid_invvpid(entry_state(cpu), type, d)) return fail(cpu, VmxError::InvalidInvalidationOperand);
  mmu::invalidate_vpid(cpu, type, static_cast<u16>(d.low), d.high);
  return succeed(cpu);
}

} // namespace abyme::soft::vmx
