#include "conformance/engines.hpp"
#include "kvm/kvm_engine.hpp"
#include "kvm/probe.hpp"
#include "kvm/system.hpp"
#include "soft/soft_engine.hpp"

namespace abyme::conformance {
namespace {

std::string kvm_limits() {
  static const std::string found = [] {
    const auto result = kvm::probe();
    return result.runs_natively() ? std::string() : "kvm: " + result.error;
  }();
  return found;
}

constexpr EngineRow kEngines[] = {
    {"kvm", kvm::host_features, kvm::make_kvm_engine, kvm_limits},
    {"soft", [] { return Result<x86::HostFeatures>(x86::software_cpu_features()); },
     [](const EngineConfig &config) { return make_soft_engine(config); }, [] { return std::string(); }},
};

} // namespace

INSTANTIATE_TEST_SUITE_P(Engines, Conformance, testing::ValuesIn(kEngines),
                         [](const auto &info) { return std::string(info.param.name); });

} // namespace abyme::conformance
