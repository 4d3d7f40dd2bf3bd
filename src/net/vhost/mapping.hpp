#pragma once
#include "base/fd.hpp"
#include "base/int.hpp"
#include "base/result.hpp"
#include <span>

namespace abyme::net {

// Shared memory of a peer that may shrink the file under our feet. A touch beyond its end then raises SIGBUS; the
// handler puts zero pages there and notes it, so that the switch goes on and drops that peer. This needs a process-wide
// table of mappings: a signal handler has no other context.
class SharedMapping {
public:
  SharedMapping() = default;
  SharedMapping(SharedMapping &&other) noexcept;
  SharedMapping &operator=(SharedMapping &&other) noexcept;
  ~SharedMapping();

  // Maps the file's first `bytes`. Refuses a file that is shorter.
  [[nodiscard]] static Result<SharedMapping> map(const Fd &file, u64 bytes);
  [[nodiscard]] std::span<u8> bytes() const { return {base_, size_}; }
  // The peer took away memory that it had shared; what is mapped now is not its memory any more.
  [[nodiscard]] bool torn() const;

private:
  void release();
  u8 *base_ = nullptr;
  u64 size_ = 0;
  int entry_ = -1; // in the handler's table
};

} // namespace abyme::net
