#pragma once
#include "base/fd.hpp"
#include "cli/nest/images.hpp"
#include <functional>
#include <sys/types.h>

namespace abyme::cli::nest {

// The process that runs L1, with what L1's console and the VMM itself say. It dies with its owner.
class OuterVmm {
public:
  [[nodiscard]] static Result<OuterVmm> start(const Options &options, const Images &images);
  OuterVmm(OuterVmm &&other) noexcept : pid_(std::exchange(other.pid_, 0)), output_(std::move(other.output_)) {}
  ~OuterVmm();

  // Reads what there is, and calls `line` for each whole line. False once the process has closed its output.
  [[nodiscard]] bool read(const std::function<void(std::string_view)> &line);
  // What poll() waits for.
  [[nodiscard]] int output() const { return output_.get(); }
  // Its exit status, 128 + N if signal N ended it. Asks it to end first if `stop`; kills it if it does not in time.
  [[nodiscard]] int wait(bool stop);

private:
  OuterVmm(pid_t pid, Fd output) : pid_(pid), output_(std::move(output)) {}
  pid_t pid_;
  Fd output_;
  std::string partial_;
};

} // namespace abyme::cli::nest
