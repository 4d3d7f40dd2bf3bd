// The VMX-preemption timer (SDM 3C §26.5.1): counts down at the TSC's rate shifted by kPreemptionTimerShift.
#include "soft/vmx/exit.hpp"

namespace abyme::soft::vmx {
namespace {

constexpr u64 kSecond = 1'000'000'000;

[[nodiscard]] Nanoseconds to_time(const Cpu &cpu, u64 ticks) {
  const u128 tsc_ticks = static_cast<u128>(ticks) << kPreemptionTimerShift;
  return static_cast<Nanoseconds>(tsc_ticks * kSecond / cpu.profile->tsc_hz);
}

[[nodiscard]] u64 to_ticks(const Cpu &cpu, Nanoseconds time) {
  return static_cast<u64>(static_cast<u128>(time) * cpu.profile->tsc_hz / kSecond >> kPreemptionTimerShift);
}

} // namespace

void start_preemption_timer(Cpu &cpu) {
  Vmx &vmx = *cpu.vmx;
  vmx.preemption_deadline = kNever;
  if (!(vmx.controls.pin & x86::pin::PreemptionTimer)) return;
  const u64 ticks = vmx.vmcs[Field::PreemptionTimer];
  vmx.preemption_deadline = cpu.clock->now() + to_time(cpu, ticks);
  if (ticks == 0) cpu.need(kAttentionPreemption | kAttentionEvents);
}

u32 preemption_timer_value(const Cpu &cpu) {
  const Nanoseconds deadline = cpu.vmx->preemption_deadline, now = cpu.clock->now();
  return deadline <= now ? 0 : static_cast<u32>(to_ticks(cpu, deadline - now));
}

Nanoseconds next_deadline(const Cpu &cpu) { return non_root(cpu) ? cpu.vmx->preemption_deadline : kNever; }

} // namespace abyme::soft::vmx
