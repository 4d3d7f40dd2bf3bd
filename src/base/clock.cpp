#include "base/clock.hpp"
#include <ctime>

namespace abyme {

Nanoseconds HostClock::now() const {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<u64>(t.tv_sec) * 1'000'000'000 + static_cast<u64>(t.tv_nsec);
}

u64 HostClock::wall_seconds() const { return static_cast<u64>(std::time(nullptr)); }

} // namespace abyme
