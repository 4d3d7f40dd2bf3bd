#pragma once
#include "vcpu/engine.hpp"

namespace abyme {

// Stands in for the engine while devices are made: an engine needs the PIC and the I/O APIC, and they need somewhere to
// send to.
class InterruptRelay final : public InterruptSink {
public:
  void connect(InterruptSink &engine) {
    engine_ = &engine;
  } // before any vCPU runs; until then there is nobody to interrupt
  void message(u64 address, u32 data) override {
    if (engine_ != nullptr) engine_->message(address, data);
  }
  void external_interrupt_changed() override {
    if (engine_ != nullptr) engine_->external_interrupt_changed();
  }

private:
  InterruptSink *engine_ = nullptr;
};

} // namespace abyme
