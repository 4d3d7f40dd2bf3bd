#pragma once
#include "soft/trace.hpp"
#include "vcpu/engine.hpp"

namespace abyme {

// The software CPU, for one VM.
[[nodiscard]] Result<std::unique_ptr<Engine>> make_soft_engine(const EngineConfig &config, const soft::TraceOptions &trace = {});

} // namespace abyme
