#include "soft/soft_engine.hpp"
#include "soft/soft_vcpu.hpp"
#include "soft/tracer.hpp"
#include <thread>

namespace abyme {
namespace {

using namespace soft;

class SoftEngine final : public Engine, public CodeListener, public CodeSync {
public:
  SoftEngine(const EngineConfig &config, std::unique_ptr<Tracer> tracer) : memory_(config.memory), tracer_(std::move(tracer)) {
    for (unsigned i = 0; i < config.cpus; i++)
      vcpus_.push_back(std::make_unique<SoftVcpu>(i, config, bus_, *this, bus_lock_, tracer_.get()));
    memory_.set_code_listener(this);
  }
  ~SoftEngine() override { memory_.set_code_listener(nullptr); }

  // --- Engine ---
  [[nodiscard]] std::string_view name() const override { return "soft"; }
  [[nodiscard]] Vcpu &vcpu(unsigned index) override { return *vcpus_.at(index); }
  void stop() override {
    for (auto &v : vcpus_) v->wake(kAttentionStop);
  }
  void message(u64 address, u32 data) override { bus_.message(address, data); }
  void external_interrupt_changed() override { vcpus_.front()->interrupt(); }
  // Guest code reaches devices without leaving the process, so there is nothing to shorten.
  [[nodiscard]] bool attach_doorbell(Gpa, unsigned, int) override { return false; }
  void detach_doorbell(Gpa, unsigned, int) override {}
  [[nodiscard]] bool attach_irqfd(int, u64, u32) override { return false; }
  void detach_irqfd(int) override {}

  // --- CodeListener: decoded code was overwritten, by whomever ---
  void code_written(Gpa page) override {
    for (auto &v : vcpus_) v->cpu().blocks->post(v->cpu(), {.page = page, .drop_code = true});
  }

  // --- CodeSync ---
  void retire_writers(Gpa page, Cpu &self) override {
    for (auto &v : vcpus_)
      if (v->cpu().index != self.index) v->cpu().blocks->post(v->cpu(), {.page = page, .drop_code = false});
    for (auto &v : vcpus_) {
      if (v->cpu().index == self.index) continue;
      BlockCache &blocks = *v->cpu().blocks;
      const u64 wanted = blocks.posted();
      while (!v->outside() && blocks.processed() < wanted && !(self.attention.load() & kAttentionStop)) {
        self.blocks->process(self); // the other may be waiting for this one
        std::this_thread::yield();
      }
    }
  }

private:
  GuestMemory &memory_;
  std::unique_ptr<Tracer> tracer_;
  ApicBus bus_;
  std::mutex bus_lock_;
  std::vector<std::unique_ptr<SoftVcpu>> vcpus_;
};

} // namespace

Result<std::unique_ptr<Engine>> make_soft_engine(const EngineConfig &config, const TraceOptions &trace) {
  std::unique_ptr<Tracer> tracer;
  if (trace.kinds != 0) {
    auto made = Tracer::create(trace);
    if (!made) return std::unexpected(made.error());
    tracer = std::move(*made);
  }
  return std::make_unique<SoftEngine>(config, std::move(tracer));
}

} // namespace abyme
