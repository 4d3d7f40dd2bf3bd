#pragma once
#include "base/result.hpp"
#include <string>
#include <vector>

namespace abyme::image {

// Runs a program of the host, found in PATH, with nothing on its standard input. What it wrote on standard output; it
// is an error if it cannot be started or does not exit with 0, and the message ends with the last line of its standard
// error.
[[nodiscard]] Result<std::string> run_program(const std::vector<std::string> &arguments,
                                              const std::string &directory = ".");

} // namespace abyme::image
