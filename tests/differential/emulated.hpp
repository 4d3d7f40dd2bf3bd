#pragma once
#include "machine_case.hpp"
#include "x86/cpu_profile.hpp"
#include <memory>

namespace abyme::differential {

// Executes cases on abyme's software CPU: 64-bit user mode, the code and data areas mapped as the native process has
// them.
class Emulated {
public:
  Emulated(const x86::CpuProfile &profile, u64 fs_base);
  ~Emulated();

  void run(const Case &c, Outcome &out);

private:
  struct Machine;
  std::unique_ptr<Machine> machine_;
};

} // namespace abyme::differential
