#pragma once
#include "machine/config.hpp"

namespace abyme::machine {

// Runs a VM to its end, through its resets, on the calling process's signals and standard streams. The exit status, or
// why the VM could not start. `stats`: the file that gets figures about the run as JSON, "-" for standard output, empty
// for none.
[[nodiscard]] Result<int> run_vm(const MachineConfig &config, const std::string &stats);

} // namespace abyme::machine
