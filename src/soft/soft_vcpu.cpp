#include "soft/soft_vcpu.hpp"
#include "soft/hostexec/hostexec.hpp"
#include "soft/interp/dispatch.hpp"
#include "soft/mmu/watch.hpp"
#include "soft/system/system.hpp"
#include "soft/tracer.hpp"
#include "soft/vmx/vmx.hpp"
#include <Zydis/Zydis.h>

namespace abyme::soft {
namespace {

using namespace x86;

constexpr size_t kCodeBytes = 16_MiB;
constexpr u64 kSingleStep = 1 << 14; // DR6.BS
constexpr u64 kBreakpointsMet = 15;  // DR6.B0 to B3

LocalApic::Config apic_config(unsigned index, const CpuProfile &profile) {
  return {.id = index,
          .bsp = index == 0,
          .x2apic = profile.has(Feature::x2apic),
          .tsc_deadline = profile.has(Feature::tsc_deadline_timer),
          .physical_bits = profile.physical_bits};
}

// Instructions that go through the IDT, or mask flags themselves: no single-step trap follows them (SDM 3B §18.3.1.4).
bool clears_trap(const Op &op) {
  switch (op.mnemonic) {
  case ZYDIS_MNEMONIC_INT:
  case ZYDIS_MNEMONIC_INT1:
  case ZYDIS_MNEMONIC_INT3:
  case ZYDIS_MNEMONIC_INTO:
  case ZYDIS_MNEMONIC_SYSCALL: return true;
  default: return false;
  }
}

} // namespace

SoftVcpu::SoftVcpu(unsigned index, const EngineConfig &config, ApicBus &bus, CodeSync &sync, std::mutex &bus_lock, Tracer *tracer)
    : cpu_(std::make_unique<Cpu>()), mmu_(std::make_unique<mmu::Mmu>()), blocks_(kCodeBytes, sync) {
  Cpu &cpu = *cpu_;
  cpu.index = index;
  cpu.memory = &config.memory;
  cpu.io = &config.io;
  cpu.pic = &config.pic;
  cpu.clock = &config.timers.clock();
  cpu.profile = &config.profile;
  cpu.mmu = mmu_.get();
  cpu.tlb = &mmu_->tlb;
  cpu.blocks = &blocks_;
  cpu.bus_lock = &bus_lock;
  cpu.tracer = tracer;
  cpu.segments[Op::kFlat] = {.base = 0, .limit = ~0u, .rights = 0xC093, .selector = 0};
  cpu.vmx = vmx::create(cpu);
  hostexec::create(cpu);
  apic_ = std::make_unique<LocalApic>(apic_config(index, config.profile), bus, *this, config.timers, config.ioapic);
  cpu.apic = apic_.get();
  preemption_timer_ = config.timers.create([this] { wake(kAttentionPreemption | kAttentionEvents); });
  mmu::flush_all(cpu);
  system::reset(cpu);
  if (index != 0) cpu.activity = Activity::WaitForSipi;
  else apic_->enter_virtual_wire_mode();
}

SoftVcpu::~SoftVcpu() {
  preemption_timer_.reset();
  hostexec::destroy(*cpu_);
  vmx::destroy(cpu_->vmx);
}

void SoftVcpu::set_state(const CpuState &state) {
  system::set_state(*cpu_, state);
  cpu_->activity = Activity::Active;
}

CpuState SoftVcpu::state() const { return system::get_state(*cpu_); }

void SoftVcpu::sipi(u8 vector) {
  cpu_->sipi_vector = vector;
  wake(kAttentionSipi);
}

Nanoseconds SoftVcpu::time_of_tsc(u64 tsc) {
  const u64 offset = static_cast<u64>(cpu_->tsc_offset);
  const Nanoseconds at = tsc - offset;
  // Behind the clock by less than half its range: passed. Otherwise it wrapped: never.
  const Nanoseconds now = cpu_->clock->now();
  return static_cast<i64>(at - now) < 0 && tsc > offset + now ? ~0ull : at;
}

void SoftVcpu::wake(u32 attention) {
  cpu_->need(attention);
  cpu_->attention.notify_all();
}

VcpuExit SoftVcpu::run() {
  Cpu &cpu = *cpu_;
  hostexec::enter(cpu);
  std::optional<VcpuExit> exit;
  outside_ = false;
  blocks_.process(cpu);
  while (!exit) {
    if (cpu.attention.load(std::memory_order_relaxed) != 0) {
      exit = attend();
      if (exit) break;
    }
    if (cpu.activity != Activity::Active) {
      if (cpu.activity == Activity::Shutdown && cpu.vmx_mode != VmxMode::NonRoot) {
        exit = TripleFault{};
        break;
      }
      wait();
      continue;
    }
    execute(cpu.attention.load(std::memory_order_relaxed) & kAttentionEvents);
    if (cpu.fault.kind != Fault::Kind::None) exit = settle_fault();
    retired_.store(cpu.instructions, std::memory_order_relaxed);
  }
  outside_ = true;
  hostexec::leave(cpu);
  return *exit;
}

namespace {

// RF lets one instruction pass its breakpoint and is clear after it; IRET may have set it anew, and a repeated string instruction that is not
// over keeps it (SDM 3B §18.3.1.1).
void clear_resume(Cpu &cpu, const Op &op, u64 rip) {
  const bool loads = op.mnemonic == ZYDIS_MNEMONIC_IRET || op.mnemonic == ZYDIS_MNEMONIC_IRETD || op.mnemonic == ZYDIS_MNEMONIC_IRETQ;
  const bool under_way = (op.flags & (kOpRep | kOpRepne)) && cpu.rip == rip;
  if (!loads && !under_way) cpu.rflags_rest &= ~rflags::RF;
}

// An instruction breakpoint is a fault before the instruction. True: cpu.fault is it.
bool meets_breakpoint(Cpu &cpu) {
  if (!mmu::breakpoints_enabled(cpu) || (cpu.rflags_rest & rflags::RF) || (cpu.shadow & kShadowMovSs)) return false;
  const u64 linear = cpu.code64() ? cpu.rip : static_cast<u32>(cpu.segments[CS].base + cpu.rip);
  const u64 bits = mmu::instruction_breakpoints(cpu, linear);
  if (bits == 0) return false;
  cpu.fault = {.kind = Fault::Kind::Exception, .event = {.vector = DB, .address = bits}};
  return true;
}

} // namespace

// Runs a block and all that are linked to it; with `single`, one instruction.
void SoftVcpu::execute(bool single) {
  Cpu &cpu = *cpu_;
  if (single && meets_breakpoint(cpu)) return;
  Block *block = blocks_.find(cpu, single);
  if (!block) return;
  if (cpu.tracer) [[unlikely]] {
    if (cpu.tracer->wants_blocks(cpu)) cpu.need(kAttentionTrace);
    else cpu.attention.fetch_and(~static_cast<u32>(kAttentionTrace));
    trace_block(*block);
  }
  const u8 shadow = cpu.shadow;
  const bool stepping = (cpu.rflags_rest & rflags::TF) && !clears_trap(block->ops[0]);
  const VmxMode vmx_mode = cpu.vmx_mode;
  const bool resumes = cpu.rflags_rest & rflags::RF;
  const u64 rip = cpu.rip;
  cpu.instructions += block->count;
  for (const Op *op = block->ops; op;) op = op->handler(cpu, op);
  if (!single) return;
  // What an instruction met before it faulted it meets again.
  if (cpu.fault.kind != Fault::Kind::None) cpu.pending_debug &= ~kBreakpointsMet;
  else if (resumes && cpu.vmx_mode == vmx_mode) clear_resume(cpu, block->ops[0], rip);
  cpu.shadow &= static_cast<u8>(~shadow);
  if (cpu.shadow) cpu.need(kAttentionEvents);
  if (stepping && cpu.fault.kind == Fault::Kind::None && cpu.vmx_mode == vmx_mode) {
    cpu.pending_debug |= kSingleStep;
    cpu.need(kAttentionEvents);
  }
}

std::optional<VcpuExit> SoftVcpu::settle_fault() {
  Cpu &cpu = *cpu_;
  const Fault fault = cpu.fault;
  switch (fault.kind) {
  case Fault::Kind::Exception:
    trace(cpu, kTraceExceptions, "exception {} error {:#x} address {:#x}", fault.event.vector, fault.event.error, fault.event.address);
    system::deliver_fault(cpu);
    break;
  case Fault::Kind::EptViolation:
  case Fault::Kind::EptMisconfig:
  case Fault::Kind::VmExit: vmx::ept_fault(cpu); break;
  case Fault::Kind::VmxAbort: return InternalError{fmt::format("VMX abort: {}\n{}", fault.text ? fault.text : "", dump(cpu))};
  case Fault::Kind::InternalError: return InternalError{fmt::format("{}\n{}", fault.text ? fault.text : "impossible state", dump(cpu))};
  case Fault::Kind::None:
  case Fault::Kind::Retry: break;
  }
  if (cpu.fault.kind == Fault::Kind::VmxAbort || cpu.fault.kind == Fault::Kind::InternalError)
    return InternalError{fmt::format("{}\n{}", cpu.fault.text ? cpu.fault.text : "impossible state", dump(cpu))};
  cpu.fault.kind = Fault::Kind::None;
  return std::nullopt;
}

// What came in since the last block, in the order of SDM 3A table 6-2.
std::optional<VcpuExit> SoftVcpu::attend() {
  Cpu &cpu = *cpu_;
  const u32 bits = cpu.attention.fetch_and(~static_cast<u32>(kAttentionEvents));
  if (bits & kAttentionStop) {
    cpu.attention.fetch_and(~static_cast<u32>(kAttentionStop));
    cpu.need(bits & kAttentionEvents); // for the next run()
    return Stopped{};
  }
  if (bits & kAttentionCode) blocks_.process(cpu);
  if (bits & kAttentionPreemption) armed_ = ~0ull;
  if (vmx::boundary_events(cpu) || attend_init() || take_debug_trap() || take_nmi() || take_interrupt()) {
    // Whatever was delivered may have left more to look at.
    if (cpu.fault.kind != Fault::Kind::None) return settle_fault();
    cpu.need(kAttentionInterrupt);
  }
  if (cpu.shadow || (cpu.rflags_rest & (rflags::TF | rflags::RF)) || mmu::breakpoints_enabled(cpu)) cpu.need(kAttentionEvents);
  arm_preemption_timer();
  return std::nullopt;
}

bool SoftVcpu::attend_init() {
  Cpu &cpu = *cpu_;
  const u32 bits = cpu.attention.load();
  if ((bits & kAttentionInit) && cpu.vmx_mode == VmxMode::Off) {
    cpu.attention.fetch_and(~static_cast<u32>(kAttentionInit));
    system::init(cpu);
    cpu.activity = cpu.index == 0 ? Activity::Active : Activity::WaitForSipi;
    return true;
  }
  if ((bits & kAttentionSipi) && cpu.vmx_mode != VmxMode::NonRoot) {
    cpu.attention.fetch_and(~static_cast<u32>(kAttentionSipi));
    if (cpu.activity != Activity::WaitForSipi) return false;
    system::start_up(cpu, cpu.sipi_vector);
    cpu.activity = Activity::Active;
    return true;
  }
  return false;
}

bool SoftVcpu::take_debug_trap() {
  Cpu &cpu = *cpu_;
  if (cpu.pending_debug == 0 || (cpu.shadow & kShadowMovSs) || cpu.activity == Activity::WaitForSipi) return false;
  cpu.fault = {.kind = Fault::Kind::Exception, .event = {.vector = DB, .address = cpu.pending_debug}};
  cpu.pending_debug = 0;
  cpu.activity = Activity::Active;
  trace(cpu, kTraceExceptions, "debug trap {:#x}", cpu.fault.event.address);
  system::deliver_fault(cpu);
  if (cpu.fault.kind == Fault::Kind::Exception) cpu.fault.kind = Fault::Kind::None;
  return true;
}

bool SoftVcpu::take_nmi() {
  Cpu &cpu = *cpu_;
  if (cpu.attention.load() & kAttentionNmi) {
    cpu.attention.fetch_and(~static_cast<u32>(kAttentionNmi));
    cpu.nmi_pending = true;
  }
  if (!cpu.nmi_pending || cpu.nmi_blocked || cpu.shadow || cpu.activity == Activity::WaitForSipi) return false;
  if (vmx::nmis_exit(cpu)) return false;
  cpu.nmi_pending = false;
  cpu.nmi_blocked = true;
  cpu.activity = Activity::Active;
  system::deliver_event(cpu, {.type = EventType::Nmi, .vector = NMI});
  return true;
}

// The vector that the LAPIC, or the PIC behind it, wants to deliver now.
std::optional<u8> SoftVcpu::acknowledge_interrupt() {
  Cpu &cpu = *cpu_;
  if (apic_->pending_vector()) return apic_->acknowledge();
  if (cpu.index == 0 && apic_->accepts_external() && cpu.pic->pending()) return cpu.pic->acknowledge();
  return std::nullopt;
}

bool SoftVcpu::take_interrupt() {
  Cpu &cpu = *cpu_;
  if (!(cpu.attention.load() & kAttentionInterrupt) || vmx::external_interrupts_exit(cpu)) return false;
  cpu.attention.fetch_and(~static_cast<u32>(kAttentionInterrupt));
  cpu.interrupt_waiting = true; // until it is known that there is none
  if (!(cpu.rflags_rest & rflags::IF) || cpu.activity == Activity::WaitForSipi || cpu.activity == Activity::Shutdown) return false;
  if (cpu.shadow) {
    cpu.need(kAttentionInterrupt | kAttentionEvents);
    return false;
  }
  const auto vector = acknowledge_interrupt();
  cpu.interrupt_waiting = false;
  if (!vector) return false;
  trace(cpu, kTraceInterrupts, "interrupt {:#x}", *vector);
  cpu.activity = Activity::Active;
  system::deliver_event(cpu, {.type = EventType::ExternalInterrupt, .vector = *vector});
  return true;
}

void SoftVcpu::wait() {
  Cpu &cpu = *cpu_;
  if (vmx::wakes(cpu)) {
    cpu.need(kAttentionEvents);
    return;
  }
  retired_.store(cpu.instructions, std::memory_order_relaxed);
  outside_ = true;
  // VMX operation blocks INIT, which stays pending meanwhile.
  const u32 blocked = cpu.vmx_mode == VmxMode::Off ? 0u : static_cast<u32>(kAttentionInit);
  const u32 ignored = cpu.attention.load() & (kAttentionTrace | blocked);
  cpu.attention.wait(ignored);
  outside_ = false;
}

void SoftVcpu::arm_preemption_timer() {
  // An expiry too early is harmless, and cheaper than moving the timer at every VM entry.
  const Nanoseconds deadline = vmx::next_deadline(*cpu_);
  if (deadline >= armed_) return;
  armed_ = deadline;
  preemption_timer_->set(deadline);
}

void SoftVcpu::trace_block(const Block &block) const {
  const Cpu &cpu = *cpu_;
  trace(cpu, kTraceBlocks, "block {} instructions", block.count);
  trace(cpu, kTraceRegisters, "rax {:x} rcx {:x} rdx {:x} rbx {:x} rsp {:x} rbp {:x} rsi {:x} rdi {:x} r8 {:x} r9 {:x} r10 {:x} r11 {:x} flags {:x}",
        cpu.gpr[RAX], cpu.gpr[RCX], cpu.gpr[RDX], cpu.gpr[RBX], cpu.gpr[RSP], cpu.gpr[RBP], cpu.gpr[RSI], cpu.gpr[RDI], cpu.gpr[R8],
        cpu.gpr[R9], cpu.gpr[R10], cpu.gpr[R11], rflags(cpu));
  if (!cpu.tracer->wants(cpu, kTraceInstructions)) return;
  u8 bytes[16];
  const Gpa at(block.page->physical + block.offset);
  if (!cpu.memory->read(at, bytes, std::min<u64>(sizeof bytes, kPageSize - block.offset))) return;
  ZydisDisassembledInstruction text;
  const auto mode = cpu.code64() ? ZYDIS_MACHINE_MODE_LONG_64 : cpu.mode & kModeCode32 ? ZYDIS_MACHINE_MODE_LEGACY_32 : ZYDIS_MACHINE_MODE_LEGACY_16;
  if (ZYAN_SUCCESS(ZydisDisassembleIntel(mode, cpu.rip, bytes, sizeof bytes, &text))) trace(cpu, kTraceInstructions, "{}", text.text);
}

} // namespace abyme::soft
