#pragma once
#include "base/int.hpp"

namespace abyme::differential {

// xoshiro-like small generator: fast, seeded, the same everywhere.
class Random {
public:
  explicit Random(u64 seed) : state_(seed * 0x9E3779B97F4A7C15ull + 1) {}
  u64 next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ * 0x2545F4914F6CDD1Dull;
  }
  u64 below(u64 n) { return (next() >> 16) % n; }
  bool chance(unsigned percent) { return below(100) < percent; }

private:
  u64 state_;
};

} // namespace abyme::differential
