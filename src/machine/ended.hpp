#pragma once
#include "base/int.hpp"
#include <string>
#include <string_view>

namespace abyme::machine {

// How a VM's run ended.
struct Ended {
  enum class Why { PowerOff, Reset, TripleFault, DebugExit, InternalError, Signal };
  Why why = Why::PowerOff;
  unsigned value = 0;    // DebugExit: what the guest wrote; Signal: the host's signal, SIGINT for the escape key
  std::string message{}; // InternalError: what happened, with a dump; TripleFault: which vCPU
};

// Of the process that ran the VM.
[[nodiscard]] int exit_status(const Ended &ended);
// A word for programs: "power-off", "reset", ...
[[nodiscard]] std::string_view name(Ended::Why why);
// A sentence for people.
[[nodiscard]] std::string describe(const Ended &ended);

} // namespace abyme::machine
