#pragma once
#include "soft/vmx/exit.hpp"
#include <optional>

// How VMX instructions begin and end (SDM 3C §31.2).
namespace abyme::soft::vmx {

// VMsucceed, VMfailInvalid, and VMfail(error): with a current VMCS VMfailValid, else VMfailInvalid.
Outcome succeed(Cpu &cpu);
Outcome fail_invalid(Cpu &cpu);
Outcome fail(Cpu &cpu, x86::VmxError error);

// The checks that every VMX instruction but VMXON begins with: #UD outside of VMX operation and in modes without VMX
// instructions, the VM exit in non-root operation, #GP(0) outside of ring 0. Nothing: the instruction goes on, in root
// operation.
[[nodiscard]] std::optional<Outcome> preamble(Cpu &cpu, const Op &op, x86::ExitReason reason, u64 qualification = 0,
                                              u32 information = 0);
// Real mode, virtual-8086 and compatibility mode have no VMX instructions.
[[nodiscard]] bool mode_has_vmx(const Cpu &cpu);

} // namespace abyme::soft::vmx
