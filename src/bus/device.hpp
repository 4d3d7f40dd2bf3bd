#pragma once
#include "base/address.hpp"
#include "base/int.hpp"

namespace abyme {

// A device's registers in one range of ports or of memory. `offset` is from the start of the range, size 1, 2, 4 or 8
// (ports: at most 4); the access lies inside the range. Called with the machine's device lock held (Bus::lock()).
class RegisterBlock {
public:
  virtual ~RegisterBlock() = default;
  [[nodiscard]] virtual u64 read(u64 offset, unsigned size) = 0;
  virtual void write(u64 offset, unsigned size, u64 value) = 0;
};

// A wire into an interrupt controller.
class IrqLine {
public:
  virtual ~IrqLine() = default;
  virtual void set(bool level) = 0;
};

} // namespace abyme
