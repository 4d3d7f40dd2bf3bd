#pragma once
#include "machine_case.hpp"
#include <memory>
#include <span>
#include <sys/types.h>

namespace abyme::differential {

// Executes cases on the host CPU itself, in a child process: one single step each, between two signals.
class Native {
public:
  Native();
  ~Native();
  Native(const Native &) = delete;
  Native &operator=(const Native &) = delete;

  static constexpr unsigned kBatch = 64;
  // Room for the cases of the next batch, and what run() left of them.
  [[nodiscard]] Case &in(unsigned n);
  [[nodiscard]] const Outcome &out(unsigned n) const;
  // False: the child died (a case did something that a process does not survive).
  [[nodiscard]] bool run(unsigned count);

  // GS base of the child, and its FS base, selectors: what the guest must have too.
  static constexpr u64 kGsBase = kData + 0x40;
  [[nodiscard]] u64 fs_base() const;

private:
  struct Shared;
  void start();
  void stop();

  Shared *shared_ = nullptr;
  pid_t child_ = -1;
  int to_child_[2] = {-1, -1}, from_child_[2] = {-1, -1};
};

} // namespace abyme::differential
