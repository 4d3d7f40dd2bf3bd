#pragma once
#include "base/clock.hpp"
#include "base/result.hpp"
#include "machine/ended.hpp"

namespace abyme::machine {

// Figures about a run, over all resets of the guest.
struct RunStats {
  std::string engine;
  unsigned cpus = 0;
  unsigned resets = 0;
  u64 instructions = 0; // retired by all vCPUs; 0 where the engine cannot count them
  Nanoseconds nanoseconds = 0;
  Ended ended;
};

// As JSON to a file, or to standard output for "-".
[[nodiscard]] Result<void> write_stats(const RunStats &stats, const std::string &path);

} // namespace abyme::machine
