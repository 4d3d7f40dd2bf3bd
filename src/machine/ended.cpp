#include "machine/ended.hpp"
#include <csignal>
#include <cstring>
#include <fmt/format.h>

namespace abyme::machine {

int exit_status(const Ended &ended) {
  switch (ended.why) {
  case Ended::Why::PowerOff: return 0;
  case Ended::Why::Reset: return 3;
  case Ended::Why::TripleFault: return 4;
  case Ended::Why::InternalError: return 5;
  case Ended::Why::DebugExit: return static_cast<int>((ended.value << 1 | 1) & 0xFF); // QEMU's convention
  case Ended::Why::Signal: break;
  }
  return 128 + static_cast<int>(ended.value); // a shell's convention
}

std::string_view name(Ended::Why why) {
  switch (why) {
  case Ended::Why::PowerOff: return "power-off";
  case Ended::Why::Reset: return "reset";
  case Ended::Why::TripleFault: return "triple-fault";
  case Ended::Why::DebugExit: return "debug-exit";
  case Ended::Why::InternalError: return "internal-error";
  case Ended::Why::Signal: break;
  }
  return "signal";
}

std::string describe(const Ended &ended) {
  switch (ended.why) {
  case Ended::Why::PowerOff: return "the guest powered off";
  case Ended::Why::Reset: return "the guest asked for a reset";
  case Ended::Why::TripleFault: return "triple fault: " + ended.message;
  case Ended::Why::DebugExit: return fmt::format("the guest wrote {:#x} to its debug-exit device", ended.value);
  case Ended::Why::InternalError: return "abyme's own error: " + ended.message;
  case Ended::Why::Signal: break;
  }
  if (ended.value == SIGINT) return "ended by the user";
  return fmt::format("ended by signal {} ({})", ended.value, strsignal(static_cast<int>(ended.value)));
}

} // namespace abyme::machine
