#include "soft/system/instructions.hpp"
#include "soft/tracer.hpp"
#include "soft/vmx/vmx.hpp"
#include "x86/msr.hpp"

// RDMSR and WRMSR.
namespace abyme::soft::system {

using namespace x86;

namespace {

// RDMSR sees the TSC and the x2APIC as non-root operation virtualizes them (SDM 3C §26.3, §30.5).
bool read_virtualized(Cpu &cpu, u32 number, u64 &value) {
  if (number == msr::IA32_TIME_STAMP_COUNTER) {
    value = vmx::guest_tsc(cpu, tsc(cpu));
    return true;
  }
  return vmx::apic_msr_read(cpu, number, value) || read_msr(cpu, number, value);
}

bool write_virtualized(Cpu &cpu, u32 number, u64 value) {
  switch (vmx::apic_msr_write(cpu, number, value)) {
  case vmx::ApicMsrWrite::Done: return true;
  case vmx::ApicMsrWrite::GeneralProtection: return false;
  case vmx::ApicMsrWrite::NotVirtualized: break;
  }
  return write_msr(cpu, number, value);
}

} // namespace

Outcome rdmsr(Cpu &cpu, const Op &op) {
  if (!privileged(cpu)) return Outcome::Fault;
  u32 number = low32(cpu, RCX);
  if (vmx::intercepts_rdmsr(cpu, op, number)) return Outcome::Branch;
  u64 value;
  if (!read_virtualized(cpu, number, value)) return raise(cpu, GP, 0);
  trace(cpu, kTraceMsrs, "rdmsr {:#x}: {:#x}", number, value);
  cpu.gpr[RAX] = static_cast<u32>(value);
  cpu.gpr[RDX] = value >> 32;
  return Outcome::Next;
}

Outcome wrmsr(Cpu &cpu, const Op &op) {
  if (!privileged(cpu)) return Outcome::Fault;
  u32 number = low32(cpu, RCX);
  if (vmx::intercepts_wrmsr(cpu, op, number)) return Outcome::Branch;
  u64 value = cpu.gpr[RDX] << 32 | low32(cpu, RAX);
  trace(cpu, kTraceMsrs, "wrmsr {:#x}: {:#x}", number, value);
  if (!write_virtualized(cpu, number, value)) return raise(cpu, GP, 0);
  return end_block(cpu);
}

} // namespace abyme::soft::system
