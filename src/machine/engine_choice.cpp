#include "machine/engine_choice.hpp"
#include "kvm/kvm_engine.hpp"
#include "kvm/system.hpp"
#include "soft/soft_engine.hpp"
#include "x86/cpu_models.hpp"

namespace abyme::machine {
namespace {

Result<EngineChoice> on_soft(const MachineConfig &config, std::string reason) {
  auto profile = x86::make_profile(config.cpu, x86::software_cpu_features(), config.cpus);
  if (!profile) return std::unexpected(profile.error());
  return EngineChoice{Accel::Soft, std::move(reason), std::move(*profile)};
}

Result<EngineChoice> on_kvm(const MachineConfig &config, std::string reason) {
  if (config.trace) return fail("--trace: the software CPU's; --accel soft is right");
  const auto features = kvm::host_features();
  if (!features) return std::unexpected(features.error());
  auto profile = x86::make_profile(config.cpu, *features, config.cpus);
  if (!profile) return std::unexpected(profile.error());
  return EngineChoice{Accel::Kvm, std::move(reason), std::move(*profile)};
}

Result<EngineChoice> choose_automatically(const MachineConfig &config) {
  auto soft = on_soft(config, "--trace is the software CPU's");
  if (config.trace) return soft;
  // A model that the software CPU cannot be may still be one for KVM.
  const bool has_vmx = soft && soft->profile.has(x86::Feature::vmx);
  auto pick = pick_engine(kvm::probe(has_vmx), has_vmx);
  if (pick.engine == Accel::Kvm) {
    auto kvm = on_kvm(config, std::move(pick.reason));
    if (kvm || !soft) return kvm;
    pick.reason = kvm.error().message;
  }
  if (soft) soft->reason = std::move(pick.reason);
  return soft;
}

} // namespace

std::string_view name(Accel engine) {
  switch (engine) {
  case Accel::Auto: return "auto";
  case Accel::Kvm: return "kvm";
  case Accel::Soft: break;
  }
  return "soft";
}

Pick pick_engine(const kvm::ProbeResult &probe, bool guest_has_vmx) {
  if (!probe.openable) return {Accel::Soft, probe.error};
  if (guest_has_vmx && !probe.nested_vmx)
    return {Accel::Soft,
            "KVM here offers no VT-x to guests, and this guest's CPU has it (--cpu MODEL,-vmx takes it away)"};
  if (!probe.long_mode_reached) return {Accel::Soft, probe.error};
  if (probe.instructions_per_second < kvm::ProbeResult::kNativeSpeed) {
    return {Accel::Soft,
            fmt::format("KVM here emulates: {:.1f} million instructions per second, a CPU does more than {:.0f}",
                        probe.instructions_per_second / 1e6, kvm::ProbeResult::kNativeSpeed / 1e6)};
  }
  if (!probe.runs_natively()) return {Accel::Soft, probe.error};
  return {Accel::Kvm,
          guest_has_vmx ? "KVM runs guests on this CPU and offers them VT-x" : "KVM runs guests on this CPU"};
}

Result<EngineChoice> choose_engine(const MachineConfig &config) {
  switch (config.accel) {
  case Accel::Soft: return on_soft(config, "as asked");
  case Accel::Kvm: return on_kvm(config, "as asked");
  case Accel::Auto: break;
  }
  return choose_automatically(config);
}

Result<std::unique_ptr<Engine>> make_engine(const EngineChoice &choice, const EngineConfig &engine,
                                            const MachineConfig &config) {
  if (choice.engine == Accel::Kvm) return kvm::make_kvm_engine(engine);
  return make_soft_engine(engine, config.trace.value_or(soft::TraceOptions{}));
}

} // namespace abyme::machine
