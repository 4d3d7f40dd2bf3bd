// The APIC-access page, CR8 and the APIC's MSRs in non-root operation: SDM 3C §30.3, §30.4, §30.5.
#include "soft/vmx/virtual_apic.hpp"
#include <algorithm>
#include <span>

namespace abyme::soft::vmx {
namespace {

namespace reg = apic_register;
namespace secondary = x86::secondary;
using x86::ExitReason;

// Registers of 32 bits at multiples of 16 within [first, last].
struct Range {
  u32 first, last;
};
[[nodiscard]] bool within(u32 offset, std::span<const Range> ranges) {
  const u32 at = offset & ~15u;
  return std::ranges::any_of(ranges, [&](const Range &r) { return at >= r.first && at <= r.last; });
}

// SDM 3C §30.4.2
[[nodiscard]] bool read_virtualized(const Cpu &cpu, u32 offset) {
  static constexpr Range kReads[] = {{reg::Id, reg::Version},
                                     {reg::Tpr, reg::Tpr},
                                     {reg::Eoi, reg::Eoi},
                                     {reg::Ldr, reg::Svr},
                                     {reg::Isr, reg::Esr},
                                     {reg::IcrLow, reg::InitialCount},
                                     {reg::DivideConfiguration, reg::DivideConfiguration}};
  if (!secondary_on(cpu, secondary::ApicRegisterVirtualization)) return (offset & ~15u) == reg::Tpr;
  return within(offset, kReads);
}

// SDM 3C §30.4.3.1
[[nodiscard]] bool write_virtualized(const Cpu &cpu, u32 offset) {
  static constexpr Range kRegisterWrites[] = {{reg::Id, reg::Id},
                                              {reg::Tpr, reg::Tpr},
                                              {reg::Eoi, reg::Eoi},
                                              {reg::Ldr, reg::Svr},
                                              {reg::Esr, reg::Esr},
                                              {reg::IcrLow, reg::LvtError},
                                              {reg::InitialCount, reg::InitialCount},
                                              {reg::DivideConfiguration, reg::DivideConfiguration}};
  static constexpr Range kInterruptWrites[] = {{reg::Tpr, reg::Tpr}, {reg::Eoi, reg::Eoi}, {reg::IcrLow, reg::IcrLow}};
  if (secondary_on(cpu, secondary::ApicRegisterVirtualization)) return within(offset, kRegisterWrites);
  if (secondary_on(cpu, secondary::VirtualInterruptDelivery)) return within(offset, kInterruptWrites);
  return (offset & ~15u) == reg::Tpr;
}

[[nodiscard]] bool virtualized(const Cpu &cpu, const ApicAccess &a) {
  const u32 offset = static_cast<u32>(a.offset);
  const bool whole = a.size <= 4 && (offset & 15) + a.size <= 4;
  if (!primary_on(cpu, x86::primary::UseTprShadow) || a.fetch || !whole) return false;
  return a.write ? write_virtualized(cpu, offset) : read_virtualized(cpu, offset);
}

// Table 28-6: how the page was reached.
[[nodiscard]] u64 access_type(const Cpu &cpu, const ApicAccess &a) {
  if (cpu.delivering) return 3;
  return a.fetch ? 2 : a.write ? 1 : 0;
}

void fault_as_exit(Cpu &cpu, const ApicAccess &a) {
  cpu.fault = {.kind = Fault::Kind::VmExit,
               .qualification = a.offset | access_type(cpu, a) << 12,
               .guest_linear = a.linear,
               .exit_reason = static_cast<u16>(ExitReason::ApicAccess)};
}

void note_write(Cpu &cpu, u32 offset) {
  cpu.vmx->apic_write_pending = true;
  cpu.vmx->apic_write_offset = offset;
  cpu.need(kAttentionEvents);
}

bool apic_write_exit(Cpu &cpu, u32 offset) {
  vm_exit(cpu, {.reason = ExitReason::ApicWrite, .qualification = offset});
  return true;
}

// A fixed, edge-triggered self-IPI of a vector above 15, and nothing else (SDM 3C §30.1.5).
[[nodiscard]] bool is_plain_self_ipi(u32 icr) {
  constexpr u32 kMustBeClear = 0xFFF0'0000 | 3 << 16 | 1 << 15 | 1 << 13 | 1 << 12 | 7 << 8;
  return !(icr & kMustBeClear) && (icr >> 18 & 3) == 1 && (icr & 0xF0);
}

// Virtualized EOI and self-IPI of x2APIC mode need virtual-interrupt delivery.
[[nodiscard]] bool is_x2apic_msr(const Cpu &cpu, u32 msr) {
  return msr >> 8 == 8 && secondary_on(cpu, secondary::VirtualizeX2apic);
}
[[nodiscard]] u32 offset_of(u32 msr) { return (msr & 0xFF) << 4; }

} // namespace

bool is_apic_access_page(const Cpu &cpu, u64 physical) {
  return secondary_on(cpu, secondary::VirtualizeApicAccesses) &&
         cpu.vmx->vmcs[Field::ApicAccessAddress] == (physical & kPageMask);
}

bool apic_access(Cpu &cpu, const ApicAccess &access, u64 &value, bool &exited) {
  exited = false;
  if (!virtualized(cpu, access)) {
    fault_as_exit(cpu, access);
    return false;
  }
  const u64 at = cpu.vmx->vmcs[Field::VirtualApicAddress] + access.offset;
  if (!access.write) {
    value = ~0ull;
    (void)cpu.memory->read(Gpa(at), &value, access.size);
    return true;
  }
  (void)cpu.memory->write(Gpa(at), &value, access.size);
  note_write(cpu, static_cast<u32>(access.offset));
  return true;
}

bool emulate_apic_write(Cpu &cpu) {
  Vmx &vmx = *cpu.vmx;
  const u32 offset = vmx.apic_write_offset;
  const bool interrupts = secondary_on(cpu, secondary::VirtualInterruptDelivery);
  vmx.apic_write_pending = false;
  switch (offset & ~15u) {
  case reg::Tpr: store_virtual(cpu, reg::Tpr, load_virtual(cpu, reg::Tpr) & 0xFF); return virtualize_tpr(cpu);
  case reg::Eoi:
    if (!interrupts) return apic_write_exit(cpu, offset);
    store_virtual(cpu, reg::Eoi, 0);
    return virtualize_eoi(cpu);
  case reg::IcrLow: {
    const u32 icr = load_virtual(cpu, reg::IcrLow);
    if (!interrupts || !is_plain_self_ipi(icr)) return apic_write_exit(cpu, offset);
    virtualize_self_ipi(cpu, static_cast<u8>(icr));
    return false;
  }
  case reg::SelfIpi:
    if (const u32 vector = load_virtual(cpu, reg::SelfIpi); vector >= 16)
      return virtualize_self_ipi(cpu, static_cast<u8>(vector)), false;
    return apic_write_exit(cpu, offset);
  case reg::IcrHigh: store_virtual(cpu, reg::IcrHigh, load_virtual(cpu, reg::IcrHigh) & 0xFF00'0000); return false;
  default: return apic_write_exit(cpu, offset);
  }
}

bool cr8_read(Cpu &cpu, const Op &, u64 &value) {
  if (!primary_on(cpu, x86::primary::UseTprShadow)) return false;
  value = load_virtual(cpu, reg::Tpr) >> 4 & 15;
  return true;
}

// An exit because of the threshold comes after the instruction (SDM 3C §30.1.2).
bool cr8_write(Cpu &cpu, const Op &, u64 value, bool &exited) {
  exited = false;
  if (!primary_on(cpu, x86::primary::UseTprShadow)) return false;
  store_virtual(cpu, reg::Tpr, static_cast<u32>(value & 15) << 4);
  const u64 rip = cpu.rip;
  cpu.rip = cpu.next_rip;
  exited = virtualize_tpr(cpu);
  if (!exited) cpu.rip = rip;
  return true;
}

// SDM 3C §30.5
bool apic_msr_read(Cpu &cpu, u32 msr, u64 &value) {
  if (!is_x2apic_msr(cpu, msr)) return false;
  if (!secondary_on(cpu, secondary::ApicRegisterVirtualization) && offset_of(msr) != reg::Tpr) return false;
  value = load_physical<u64>(cpu, cpu.vmx->vmcs[Field::VirtualApicAddress] + offset_of(msr));
  if (offset_of(msr) == reg::Tpr) value = static_cast<u32>(value);
  return true;
}

ApicMsrWrite apic_msr_write(Cpu &cpu, u32 msr, u64 value) {
  if (!is_x2apic_msr(cpu, msr)) return ApicMsrWrite::NotVirtualized;
  const u32 offset = offset_of(msr);
  const bool interrupts = secondary_on(cpu, secondary::VirtualInterruptDelivery);
  if (offset != reg::Tpr && !(interrupts && (offset == reg::Eoi || offset == reg::SelfIpi)))
    return ApicMsrWrite::NotVirtualized;
  if (offset == reg::Eoi ? value != 0 : value >> 8 != 0) return ApicMsrWrite::GeneralProtection;
  store_virtual(cpu, offset, static_cast<u32>(value));
  note_write(cpu, offset);
  return ApicMsrWrite::Done;
}

} // namespace abyme::soft::vmx
