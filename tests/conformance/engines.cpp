#include "conformance/engines.hpp"
#include "kvm/kvm_engine.hpp"
#include "kvm/system.hpp"
#ifdef ABYME_HAVE_SOFT
#include "soft/soft_engine.hpp"
#endif

namespace abyme::conformance {
namespace {

constexpr EngineRow kEngines[] = {
    {"kvm", kvm::host_features, kvm::make_kvm_engine},
#ifdef ABYME_HAVE_SOFT
    {"soft", [] { return Result<x86::HostFeatures>(x86::software_cpu_features()); },
     [](const EngineConfig &config) { return make_soft_engine(config); }},
#endif
};

} // namespace

std::span<const EngineRow> engine_rows() { return kEngines; }

INSTANTIATE_TEST_SUITE_P(Engines, Conformance, testing::ValuesIn(kEngines),
                         [](const auto &info) { return std::string(info.param.name); });

} // namespace abyme::conformance
