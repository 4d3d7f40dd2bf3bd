#pragma once
#include "base/int.hpp"

namespace abyme {

// What a guest can ask of the machine as a whole. Called on a vCPU thread with the device lock held: note it and
// return.
class PowerSignals {
public:
  virtual ~PowerSignals() = default;
  virtual void power_off() = 0;
  virtual void reset() = 0;
  virtual void debug_exit(u8 value) = 0;
};

} // namespace abyme
