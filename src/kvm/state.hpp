#pragma once
#include "x86/state.hpp"
#include <linux/kvm.h>
#include <string>

namespace abyme::kvm {

// Between KVM's registers and ours. `sregs` keeps what CpuState has no place for (the APIC base).
void to_kvm(const x86::CpuState &state, kvm_regs &regs, kvm_sregs &sregs);
[[nodiscard]] x86::CpuState from_kvm(const kvm_regs &regs, const kvm_sregs &sregs);
// A few lines of registers, for a person.
[[nodiscard]] std::string dump(const x86::CpuState &state);

} // namespace abyme::kvm
