#pragma once
#include "net/fdb/fdb.hpp"
#include <unordered_map>

namespace abyme::net {

// Notices addresses that keep moving between ports: a loop, or two machines with one address.
class FlapDetector {
public:
  static constexpr u32 kMoves = 6;    // so many moves
  static constexpr u32 kSeconds = 10; // within so many seconds
  // True once for each time an address begins to flap.
  [[nodiscard]] bool moved(FdbKey key, u32 second) {
    if (moves_.size() >= kTracked) moves_.clear();
    History &h = moves_[key.value];
    if (second - h.since > kSeconds) h = {.since = second, .count = 0};
    return ++h.count == kMoves;
  }

private:
  static constexpr std::size_t kTracked = 4096; // a flood of moves cannot take more memory than these
  struct History {
    u32 since = 0, count = 0;
  };
  std::unordered_map<u64, History> moves_;
};

} // namespace abyme::net
