#pragma once
#include "soft/apic/apic_bus.hpp"
#include "soft/apic/local_apic.hpp"
#include "soft/cpu.hpp"
#include "soft/decode/block_cache.hpp"
#include "soft/mmu/mmu.hpp"
#include "vcpu/engine.hpp"

namespace abyme::soft {

class Tracer;

// A vCPU of the software engine: the run loop around the interpreter, and how other threads get its attention.
class SoftVcpu final : public Vcpu, public CpuSignals {
public:
  SoftVcpu(unsigned index, const EngineConfig &config, ApicBus &bus, CodeSync &sync, std::mutex &bus_lock, Tracer *tracer);
  ~SoftVcpu() override;

  // --- Vcpu ---
  [[nodiscard]] VcpuExit run() override;
  void set_state(const x86::CpuState &state) override;
  [[nodiscard]] x86::CpuState state() const override;
  [[nodiscard]] u64 instructions() const override { return retired_.load(std::memory_order_relaxed); }

  // --- CpuSignals, and the engine; any thread ---
  void interrupt() override { wake(kAttentionInterrupt); }
  void nmi() override { wake(kAttentionNmi); }
  void init() override { wake(kAttentionInit); }
  void sipi(u8 vector) override;
  [[nodiscard]] Nanoseconds time_of_tsc(u64 tsc) override;
  void wake(u32 attention);
  // Not executing guest code, and will process posted requests before it does again.
  [[nodiscard]] bool outside() const { return outside_.load(); }

  [[nodiscard]] Cpu &cpu() { return *cpu_; }
  [[nodiscard]] LocalApic &apic() { return *apic_; }

private:
  [[nodiscard]] std::optional<VcpuExit> attend();
  [[nodiscard]] bool attend_init();
  [[nodiscard]] bool take_debug_trap();
  [[nodiscard]] bool take_nmi();
  [[nodiscard]] bool take_interrupt();
  [[nodiscard]] std::optional<u8> acknowledge_interrupt();
  void execute(bool single);
  [[nodiscard]] std::optional<VcpuExit> settle_fault();
  void wait();
  void arm_preemption_timer();
  void trace_block(const Block &block) const;

  std::unique_ptr<Cpu> cpu_;
  std::unique_ptr<mmu::Mmu> mmu_;
  BlockCache blocks_;
  std::unique_ptr<LocalApic> apic_;
  Nanoseconds armed_ = ~0ull;
  std::atomic<bool> outside_ = true;
  std::atomic<u64> retired_ = 0;
  std::unique_ptr<Timer> preemption_timer_; // last: its destructor waits for its callback
};

} // namespace abyme::soft
