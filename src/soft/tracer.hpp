#pragma once
#include "soft/cpu.hpp"
#include "base/result.hpp"
#include "soft/trace.hpp"
#include <memory>
#include <mutex>

namespace abyme::soft {

// Writes what TraceOptions ask for, one line an event: vCPU, level, retired instructions, RIP, what. Shared by a VM's vCPUs.
class Tracer {
public:
  [[nodiscard]] static Result<std::unique_ptr<Tracer>> create(const TraceOptions &options);
  ~Tracer();
  Tracer(const Tracer &) = delete;
  Tracer &operator=(const Tracer &) = delete;

  [[nodiscard]] bool wants(const Cpu &cpu, TraceKind kind) const {
    if (!(options_.kinds & kind)) return false;
    const int level = cpu.vmx_mode == VmxMode::NonRoot ? 2 : 1;
    return (options_.level == 0 || options_.level == level) && cpu.rip >= options_.first && cpu.rip <= options_.last;
  }
  // Whether blocks of the level that the vCPU is at are traced: then each must be entered from the run loop.
  [[nodiscard]] bool wants_blocks(const Cpu &cpu) const {
    if (!(options_.kinds & (kTraceBlocks | kTraceInstructions | kTraceRegisters))) return false;
    return options_.level == 0 || options_.level == (cpu.vmx_mode == VmxMode::NonRoot ? 2 : 1);
  }
  void line(const Cpu &cpu, const std::string &text);

private:
  explicit Tracer(const TraceOptions &options) : options_(options) {}
  TraceOptions options_;
  std::FILE *file_ = nullptr;
  std::mutex mutex_;
};

// The registers of a vCPU, for a person: after an internal error, and in traces.
[[nodiscard]] std::string dump(const Cpu &cpu);

template <class... Args> void trace(const Cpu &cpu, TraceKind kind, fmt::format_string<Args...> text, Args &&...args) {
  if (cpu.tracer && cpu.tracer->wants(cpu, kind)) [[unlikely]]
    cpu.tracer->line(cpu, fmt::format(text, std::forward<Args>(args)...));
}

} // namespace abyme::soft
