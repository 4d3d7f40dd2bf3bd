#pragma once
#include "kvm/vm.hpp"
#include "vcpu/engine.hpp"
#include <atomic>
#include <optional>
#include <sys/types.h>

namespace abyme::kvm {

class KvmVcpu final : public Vcpu {
public:
  [[nodiscard]] static Result<std::unique_ptr<KvmVcpu>> create(const System &system, const Vm &vm,
                                                               const EngineConfig &config, u32 index);
  ~KvmVcpu() override;
  [[nodiscard]] VcpuExit run() override;
  void set_state(const x86::CpuState &state) override;
  [[nodiscard]] x86::CpuState state() const override;

  // The two below are safe from any thread.
  void request_stop();
  void kick(); // makes KVM_RUN return, so that run() looks again at what is to be done

private:
  KvmVcpu(const EngineConfig &config, u32 index) : config_(config), index_(index) {}
  [[nodiscard]] Result<void> map_run(const System &system);
  [[nodiscard]] Result<void> set_cpuid(const System &system);
  void set_msrs(const System &system);
  void set_msr(u32 index, u64 value);

  [[nodiscard]] std::optional<VcpuExit> step();
  [[nodiscard]] std::optional<VcpuExit> handle_exit();
  void handle_port();
  void handle_mmio();
  void offer_external_interrupt();
  void finish_io();
  [[nodiscard]] InternalError impossible(std::string what) const;
  [[nodiscard]] std::string code_bytes(const x86::CpuState &state) const;

  const EngineConfig config_;
  const u32 index_;
  Fd fd_;
  kvm_run *run_ =
      nullptr; // shared with the kernel; ours to read while KVM_RUN is not under way, but for immediate_exit
  size_t run_size_ = 0;
  bool io_unfinished_ = false;    // the kernel completes an access at the next KVM_RUN; of the vCPU's thread
  std::atomic<bool> stop_{false}; // set by anyone, taken by run()
  std::atomic<pid_t> thread_{0};  // the one in run(), else 0
};

} // namespace abyme::kvm
