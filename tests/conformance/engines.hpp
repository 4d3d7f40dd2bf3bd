#pragma once
#include "vcpu/engine.hpp"
#include "x86/host_features.hpp"
#include <gtest/gtest.h>

namespace abyme::conformance {

// An engine that the suite runs on.
struct EngineRow {
  const char *name;
  Result<x86::HostFeatures> (*features)();
  Result<std::unique_ptr<Engine>> (*make)(const EngineConfig &);
  std::string (*limits)(); // why it cannot execute every instruction here; empty if it can
};

// Every test of the suite runs once on each engine; where one cannot run at all, the test is skipped and says why.
class Conformance : public testing::TestWithParam<EngineRow> {
protected:
  void SetUp() override {
    if (const auto features = GetParam().features(); !features)
      GTEST_SKIP() << GetParam().name << ": " << features.error().message;
  }
  // Why this engine, here, cannot run a test that uses more than what KVM's emulator knows.
  static std::string limits() { return GetParam().limits(); }
};

} // namespace abyme::conformance
