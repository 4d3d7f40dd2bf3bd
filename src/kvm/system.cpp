#include "kvm/system.hpp"
#include "kvm/ioctl.hpp"
#include "x86/msr.hpp"
#include <algorithm>
#include <cstring>
#include <fcntl.h>
#include <linux/kvm.h>

namespace abyme::kvm {
namespace {

struct Capability {
  int number;
  const char *name;
};
// Linux 4.5 has had all of them; a kernel without one is built without it or is not what it seems.
constexpr Capability kNeeded[] = {
    {KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},       {KVM_CAP_SPLIT_IRQCHIP, "KVM_CAP_SPLIT_IRQCHIP"},
    {KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING"},       {KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI"},
    {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"}, {KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
    {KVM_CAP_GET_TSC_KHZ, "KVM_CAP_GET_TSC_KHZ"},
};

constexpr const char *kRemedy = "use --accel soft";

std::unexpected<Error> explain_open(const char *path, int error) {
  switch (error) {
  case ENOENT:
  case ENODEV:
  case ENXIO:
    return fail(
        "{} is not there: KVM is not loaded (modprobe kvm-intel or kvm-amd), or the CPU's virtualization is off in the "
        "firmware, or this is a VM without nested virtualization; {}",
        path, kRemedy);
  case EACCES:
  case EPERM:
    return fail("{} may not be opened by this user: join its group (usermod -aG kvm USER, then log in again), or {}",
                path, kRemedy);
  default: return fail("{} cannot be opened: {}; {}", path, std::strerror(error), kRemedy);
  }
}

// Bits of IA32_VMX_PROCBASED_CTLS2[63:32], the secondary controls that may be 1 (SDM 3C table 25-7).
struct ControlBit {
  u8 bit;
  x86::VmxFeature feature;
};
using enum x86::VmxFeature;
constexpr ControlBit kSecondary[] = {
    {0, virtualize_apic_accesses},
    {1, ept},
    {2, descriptor_table},
    {3, rdtscp},
    {4, virtualize_x2apic},
    {5, vpid},
    {6, wbinvd_exiting},
    {7, unrestricted_guest},
    {8, apic_register_virtualization},
    {9, virtual_interrupt_delivery},
    {10, pause_loop},
    {11, rdrand_exiting},
    {12, invpcid_exiting},
    {13, vmfunc},
    {14, vmcs_shadowing},
    {16, rdseed_exiting},
    {17, pml},
    {18, ve},
    {20, xsaves},
    {22, mode_based_execute},
    {25, tsc_scaling},
};
constexpr ControlBit kPrimary[] = {{21, tpr_shadow}, {25, io_bitmaps}, {27, monitor_trap}, {28, msr_bitmaps}};
constexpr ControlBit kPinBased[] = {{6, preemption_timer}, {7, posted_interrupts}};
// IA32_VMX_EPT_VPID_CAP (SDM 3D appendix A.10).
constexpr ControlBit kEptCapabilities[] = {{0, ept_execute_only}, {17, ept_1gb}, {21, ept_accessed_dirty}};

} // namespace

Result<System> System::open(const char *path) {
  System system;
  system.fd_ = Fd(::open(path, O_RDWR | O_CLOEXEC));
  if (!system.fd_) return explain_open(path, errno);
  const int version = control(system.fd(), KVM_GET_API_VERSION, 0);
  if (version != KVM_API_VERSION)
    return fail("{} speaks KVM API {}, not {}; {}", path, version, KVM_API_VERSION, kRemedy);
  if (auto checked = system.check_capabilities(); !checked) return std::unexpected(checked.error());
  if (auto read = system.read_supported_cpuid(); !read) return std::unexpected(read.error());
  system.read_msr_list();
  return system;
}

int System::capability(int number) const { return std::max(0, control(fd(), KVM_CHECK_EXTENSION, number)); }

Result<void> System::check_capabilities() const {
  std::string missing;
  for (const auto &[number, name] : kNeeded)
    if (capability(number) == 0) missing += fmt::format("{}{}", missing.empty() ? "" : ", ", name);
  if (!missing.empty()) return fail("the host's KVM lacks {}, which the engine needs; {}", missing, kRemedy);
  return {};
}

Result<void> System::read_supported_cpuid() {
  constexpr u32 kMost = 4096;
  for (u32 room = 128; room <= kMost; room *= 2) {
    Table<PaddedCount, kvm_cpuid_entry2> table(room);
    if (control(fd(), kGetSupportedCpuid, table.head()) < 0) {
      if (errno == E2BIG) continue;
      return fail_errno("KVM_GET_SUPPORTED_CPUID");
    }
    for (const auto &e : table.entries())
      supported_.push_back(
          {e.function, e.index, (e.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0, e.eax, e.ebx, e.ecx, e.edx});
    return {};
  }
  return fail("KVM_GET_SUPPORTED_CPUID has more than {} leaves", kMost);
}

void System::read_msr_list() {
  Count head{};
  if (control(fd(), kGetMsrIndexList, &head) < 0 && errno != E2BIG) return;
  Table<Count, u32> list(head.count);
  if (control(fd(), kGetMsrIndexList, list.head()) < 0) return;
  msrs_.assign(list.entries().begin(), list.entries().end());
}

x86::CpuidLeaf System::supported(u32 leaf, u32 subleaf) const {
  for (const auto &l : supported_)
    if (l.leaf == leaf && (!l.subleaf_matters || l.subleaf == subleaf)) return l;
  return {leaf, subleaf, true, 0, 0, 0, 0};
}

u64 System::feature_msr(u32 index) const {
  kvm_msr_entry entry{.index = index, .reserved = 0, .data = 0};
  return transfer_msr(fd(), kGetMsrs, entry) ? entry.data : 0;
}

bool System::has_msr(u32 index) const { return std::ranges::find(msrs_, index) != msrs_.end(); }

x86::VmxFeatureSet System::vmx_features() const {
  x86::VmxFeatureSet out;
  const auto take = [&out](u32 bits, std::span<const ControlBit> table) {
    for (const auto &[bit, feature] : table) out[static_cast<size_t>(feature)] = bits >> bit & 1;
  };
  namespace msr = x86::msr;
  take(static_cast<u32>(feature_msr(msr::IA32_VMX_TRUE_PINBASED_CTLS) >> 32), kPinBased);
  take(static_cast<u32>(feature_msr(msr::IA32_VMX_TRUE_PROCBASED_CTLS) >> 32), kPrimary);
  take(static_cast<u32>(feature_msr(msr::IA32_VMX_PROCBASED_CTLS2) >> 32), kSecondary);
  take(static_cast<u32>(feature_msr(msr::IA32_VMX_EPT_VPID_CAP)), kEptCapabilities);
  return out;
}

Result<x86::HostFeatures> System::features() const {
  const Fd vm(control(fd(), KVM_CREATE_VM, 0));
  if (!vm) return fail_errno("KVM_CREATE_VM");
  const Fd vcpu(control(vm.get(), KVM_CREATE_VCPU, 0));
  if (!vcpu) return fail_errno("KVM_CREATE_VCPU");
  const int khz = control(vcpu.get(), KVM_GET_TSC_KHZ, 0);
  if (khz <= 0) return fail("the host's KVM does not know the frequency of the TSC; {}", kRemedy);
  auto out = x86::features_of(
      "KVM on this host", [this](u32 leaf, u32 subleaf) { return supported(leaf, subleaf); },
      static_cast<u64>(khz) * 1000);
  // Depends on a LAPIC in the kernel, which we have, so KVM leaves it out of the table.
  x86::put(out.features, x86::Feature::tsc_deadline_timer,
           capability(KVM_CAP_TSC_DEADLINE_TIMER) && x86::contains(out.features, x86::Feature::apic));
  if (x86::contains(out.features, x86::Feature::vmx)) out.vmx_features = vmx_features();
  return out;
}

Result<x86::HostFeatures> host_features() {
  const auto system = System::open();
  if (!system) return std::unexpected(system.error());
  return system->features();
}

} // namespace abyme::kvm
