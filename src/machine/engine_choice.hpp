#pragma once
#include "kvm/probe.hpp"
#include "machine/config.hpp"
#include "vcpu/engine.hpp"

namespace abyme::machine {

// Which engine runs a VM, and why: said wherever a VM is listed, since the difference is felt.
struct EngineChoice {
  Accel engine = Accel::Soft; // never Auto
  std::string reason;
  x86::CpuProfile profile; // the guest's CPU as this engine gives it
};

[[nodiscard]] std::string_view name(Accel engine);

// What `auto` takes where KVM is as `probe` found it, for a guest whose CPU has VT-x or not.
struct Pick {
  Accel engine;
  std::string reason;
};
[[nodiscard]] Pick pick_engine(const kvm::ProbeResult &probe, bool guest_has_vmx);

// Fails, naming them, if the CPU model asks for features that the engine cannot give here.
[[nodiscard]] Result<EngineChoice> choose_engine(const MachineConfig &config);

[[nodiscard]] Result<std::unique_ptr<Engine>> make_engine(const EngineChoice &choice, const EngineConfig &engine,
                                                          const MachineConfig &config);

} // namespace abyme::machine
