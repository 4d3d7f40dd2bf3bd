#pragma once
#include "base/int.hpp"
#include <string>

namespace abyme::kvm {

// What /dev/kvm is worth here, found by running a vCPU: that the device is there does not say that it can run a 64-bit
// kernel, nor that it does so on the CPU.
struct ProbeResult {
  bool openable = false;          // /dev/kvm opens, and has the capabilities that the engine needs
  bool long_mode_reached = false; // a vCPU ran in 64-bit mode with paging
  bool runs_vector_code = false;  // and executed an SSE2 instruction, which KVM's own emulator cannot
  double instructions_per_second = 0;
  bool nested_vmx = false; // the guest's CPU can have VT-x
  std::string vendor;      // of the host's CPU, as CPUID 0 spells it
  std::string module;      // what implements KVM: kvm_intel, kvm_amd; empty if none is loaded or it is built in
  std::string error;       // why runs_natively() is false

  // Below it, instructions are emulated one by one. Our own software CPU, which may be what runs the host, is well
  // above.
  static constexpr double kNativeSpeed = 20e6;
  [[nodiscard]] bool runs_natively() const {
    return long_mode_reached && runs_vector_code && instructions_per_second >= kNativeSpeed;
  }
};

// Takes up to a quarter of a second. Where the guest in question needs VT-x and KVM does not offer it, no vCPU is run:
// it would say nothing more.
[[nodiscard]] ProbeResult probe(bool needs_vmx = false);

} // namespace abyme::kvm
