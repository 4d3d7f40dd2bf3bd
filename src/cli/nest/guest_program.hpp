#pragma once
#include "base/int.hpp"
#include <span>

namespace abyme::cli::nest {

// The static ELF program of guest_measure.c, built for the levels.
[[nodiscard]] std::span<const u8> guest_measure_program();

} // namespace abyme::cli::nest
