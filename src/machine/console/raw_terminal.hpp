#pragma once
#include "base/result.hpp"
#include <memory>

namespace abyme::machine {

// Puts a terminal into raw mode for as long as it lives. The terminal gets its settings back when this is destroyed,
// when the process exits, and when a signal kills it (but for SIGKILL). At most one at a time.
class RawTerminal {
public:
  [[nodiscard]] static Result<std::unique_ptr<RawTerminal>> enter(int fd);
  ~RawTerminal();
  RawTerminal(const RawTerminal &) = delete;
  RawTerminal &operator=(const RawTerminal &) = delete;
  // Raw mode again, after a shell that had stopped us took it away.
  void again();

private:
  RawTerminal() = default;
};

} // namespace abyme::machine
