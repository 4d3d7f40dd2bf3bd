#pragma once
#include "vcpu/engine.hpp"

namespace abyme::kvm {

// The engine over /dev/kvm: LAPICs in the kernel, PIC and I/O APIC the machine's. The error says what the host lacks.
[[nodiscard]] Result<std::unique_ptr<Engine>> make_kvm_engine(const EngineConfig &config);

} // namespace abyme::kvm
