#pragma once
#include "base/fd.hpp"
#include "base/result.hpp"
#include "x86/host_features.hpp"
#include <span>
#include <vector>

namespace abyme::kvm {

// /dev/kvm: what the host's kernel offers to every VM. Open only if it offers all that the engine cannot do without.
class System {
public:
  [[nodiscard]] static Result<System> open(const char *path = "/dev/kvm");

  [[nodiscard]] int fd() const { return fd_.get(); }
  // The value of a KVM_CAP_*, 0 where it is absent.
  [[nodiscard]] int capability(int number) const;
  // KVM_GET_SUPPORTED_CPUID.
  [[nodiscard]] std::span<const x86::CpuidLeaf> supported_cpuid() const { return supported_; }
  [[nodiscard]] x86::CpuidLeaf supported(u32 leaf, u32 subleaf) const;
  // KVM's value of a capability MSR, 0 where it has none.
  [[nodiscard]] u64 feature_msr(u32 index) const;
  [[nodiscard]] bool has_msr(u32 index) const;
  // Makes a VM and a vCPU for a moment: the TSC's frequency is theirs.
  [[nodiscard]] Result<x86::HostFeatures> features() const;

private:
  System() = default;
  [[nodiscard]] Result<void> check_capabilities() const;
  [[nodiscard]] Result<void> read_supported_cpuid();
  void read_msr_list();
  [[nodiscard]] x86::VmxFeatureSet vmx_features() const;

  Fd fd_;
  std::vector<x86::CpuidLeaf> supported_;
  std::vector<u32> msrs_;
};

// What a CPU model may have when KVM runs it on this host.
[[nodiscard]] Result<x86::HostFeatures> host_features();

} // namespace abyme::kvm
