#include "kvm/cpuid.hpp"

namespace abyme::kvm {
namespace {

constexpr u32 kSignatureLeaf = 0x4000'0000;
constexpr u32 kParavirtualLeaf = 0x4000'0001;

kvm_cpuid_entry2 entry_of(const x86::CpuidLeaf &l) {
  kvm_cpuid_entry2 e{};
  e.function = l.leaf;
  e.index = l.subleaf;
  e.flags = l.subleaf_matters ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
  e.eax = l.eax, e.ebx = l.ebx, e.ecx = l.ecx, e.edx = l.edx;
  return e;
}

void put_apic_id(kvm_cpuid_entry2 &e, u32 apic_id) {
  if (e.function == 1) e.ebx = (e.ebx & 0x00FF'FFFF) | apic_id << 24;
  if (e.function == 0xB || e.function == 0x1F) e.edx = apic_id;
}

} // namespace

x86::FeatureSet not_offered(const x86::CpuProfile &profile, const x86::HostFeatures &host) {
  auto missing = profile.features & ~host.features;
  x86::put(missing, x86::Feature::ht, false); // says how many vCPUs there are
  return missing;
}

std::vector<kvm_cpuid_entry2> cpuid_entries(const x86::CpuProfile &profile, const System &system, u32 apic_id) {
  std::vector<kvm_cpuid_entry2> entries;
  for (const auto &leaf : profile.leaves) entries.push_back(entry_of(leaf));
  // KVM does not make up a level of type 0; without it the APIC ID in EDX would be lost.
  entries.push_back(entry_of(profile.lookup(0xB, 2)));
  entries.back().flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
  if (profile.has(x86::Feature::hypervisor)) {
    auto signature = system.supported(kSignatureLeaf, 0);
    signature.eax = kParavirtualLeaf;
    entries.push_back(entry_of(signature));
    entries.push_back(entry_of(system.supported(kParavirtualLeaf, 0)));
  }
  for (auto &e : entries) put_apic_id(e, apic_id);
  return entries;
}

} // namespace abyme::kvm
