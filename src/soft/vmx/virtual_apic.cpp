// TPR, PPR, EOI and self-IPI virtualization, virtual interrupts and posted interrupts: SDM 3C §30.1, §30.2, §30.6.
#include "soft/vmx/virtual_apic.hpp"
#include "soft/system/system.hpp"
#include <algorithm>
#include <bit>

namespace abyme::soft::vmx {
namespace {

namespace reg = apic_register;
using x86::ExitReason;

[[nodiscard]] u8 rvi(const Cpu &cpu) { return static_cast<u8>(cpu.vmx->vmcs[Field::GuestInterruptStatus]); }
[[nodiscard]] u8 svi(const Cpu &cpu) { return static_cast<u8>(cpu.vmx->vmcs[Field::GuestInterruptStatus] >> 8); }
void set_interrupt_status(Cpu &cpu, u8 requesting, u8 servicing) {
  cpu.vmx->vmcs[Field::GuestInterruptStatus] = requesting | static_cast<u64>(servicing) << 8;
}

// 256-bit registers: eight dwords, 16 bytes apart.
[[nodiscard]] u32 dword_of(u32 base, u8 vector) { return base + vector / 32u * 16; }
void set_vector(Cpu &cpu, u32 base, u8 vector) {
  store_virtual(cpu, dword_of(base, vector), load_virtual(cpu, dword_of(base, vector)) | 1u << vector % 32);
}
void clear_vector(Cpu &cpu, u32 base, u8 vector) {
  store_virtual(cpu, dword_of(base, vector), load_virtual(cpu, dword_of(base, vector)) & ~(1u << vector % 32));
}
[[nodiscard]] u8 highest_vector(const Cpu &cpu, u32 base) {
  for (unsigned n = 8; n-- > 0;)
    if (const u32 bits = load_virtual(cpu, base + n * 16)) return static_cast<u8>(n * 32 + 31 - std::countl_zero(bits));
  return 0;
}

void virtualize_ppr(Cpu &cpu) {
  const u8 vtpr = static_cast<u8>(load_virtual(cpu, reg::Tpr)), in_service = svi(cpu);
  store_virtual(cpu, reg::Ppr, vtpr >> 4 >= in_service >> 4 ? vtpr : in_service & 0xF0);
}

[[nodiscard]] bool below_threshold(const Cpu &cpu) {
  return (load_virtual(cpu, reg::Tpr) >> 4 & 15) < (cpu.vmx->vmcs[Field::TprThreshold] & 15);
}

[[nodiscard]] bool delivers_virtual(const Cpu &cpu) {
  return secondary_on(cpu, x86::secondary::VirtualInterruptDelivery);
}

} // namespace

u32 load_virtual(const Cpu &cpu, u32 offset) {
  return load_physical<u32>(cpu, cpu.vmx->vmcs[Field::VirtualApicAddress] + offset);
}

void store_virtual(Cpu &cpu, u32 offset, u32 value) {
  store_physical(cpu, cpu.vmx->vmcs[Field::VirtualApicAddress] + offset, value);
}

void evaluate_virtual_interrupts(Cpu &cpu) {
  Vmx &vmx = *cpu.vmx;
  vmx.virtual_interrupt =
      !primary_on(cpu, x86::primary::InterruptWindow) && rvi(cpu) >> 4 > (load_virtual(cpu, reg::Ppr) >> 4 & 15);
  if (vmx.virtual_interrupt) cpu.need(kAttentionEvents);
}

void evaluate_virtual_apic(Cpu &cpu) {
  Vmx &vmx = *cpu.vmx;
  vmx.virtual_interrupt = vmx.tpr_below_threshold = false;
  if (!primary_on(cpu, x86::primary::UseTprShadow)) return;
  if (delivers_virtual(cpu)) {
    virtualize_ppr(cpu);
    evaluate_virtual_interrupts(cpu);
  } else if (secondary_on(cpu, x86::secondary::VirtualizeApicAccesses) && below_threshold(cpu)) {
    vmx.tpr_below_threshold = true;
    cpu.need(kAttentionEvents);
  }
}

bool virtualize_tpr(Cpu &cpu) {
  if (delivers_virtual(cpu)) {
    virtualize_ppr(cpu);
    evaluate_virtual_interrupts(cpu);
    return false;
  }
  if (!below_threshold(cpu)) return false;
  vm_exit(cpu, {.reason = ExitReason::TprBelowThreshold});
  return true;
}

bool virtualize_eoi(Cpu &cpu) {
  const u8 vector = svi(cpu);
  clear_vector(cpu, reg::Isr, vector);
  set_interrupt_status(cpu, rvi(cpu), highest_vector(cpu, reg::Isr));
  virtualize_ppr(cpu);
  const u64 exits = cpu.vmx->vmcs[nth(Field::EoiExitBitmap0, vector / 64)];
  if (exits >> (vector % 64) & 1) {
    vm_exit(cpu, {.reason = ExitReason::VirtualizedEoi, .qualification = vector});
    return true;
  }
  evaluate_virtual_interrupts(cpu);
  return false;
}

void virtualize_self_ipi(Cpu &cpu, u8 vector) {
  set_vector(cpu, reg::Irr, vector);
  set_interrupt_status(cpu, std::max(rvi(cpu), vector), svi(cpu));
  evaluate_virtual_interrupts(cpu);
}

void deliver_virtual_interrupt(Cpu &cpu) {
  const u8 vector = rvi(cpu);
  set_vector(cpu, reg::Isr, vector);
  store_virtual(cpu, reg::Ppr, vector & 0xF0);
  clear_vector(cpu, reg::Irr, vector);
  set_interrupt_status(cpu, highest_vector(cpu, reg::Irr), vector);
  cpu.vmx->virtual_interrupt = false;
  cpu.activity = Activity::Active;
  system::deliver_event(cpu, {.type = EventType::ExternalInterrupt, .vector = vector});
}

void process_posted_interrupts(Cpu &cpu) {
  constexpr u64 kOutstanding = 1, kControl = 32;
  u8 *descriptor = cpu.memory->host(Gpa(cpu.vmx->vmcs[Field::PostedInterruptDescriptor]), 64);
  if (!descriptor) return;
  __atomic_fetch_and(reinterpret_cast<u64 *>(descriptor + kControl), ~kOutstanding, __ATOMIC_SEQ_CST);
  u8 highest = 0;
  for (unsigned n = 0; n < 8; n++) {
    const u32 requests = __atomic_exchange_n(reinterpret_cast<u32 *>(descriptor + n * 4), 0, __ATOMIC_SEQ_CST);
    if (!requests) continue;
    store_virtual(cpu, reg::Irr + n * 16, load_virtual(cpu, reg::Irr + n * 16) | requests);
    highest = static_cast<u8>(n * 32 + 31 - std::countl_zero(requests));
  }
  set_interrupt_status(cpu, std::max(rvi(cpu), highest), svi(cpu));
  evaluate_virtual_interrupts(cpu);
}

} // namespace abyme::soft::vmx
