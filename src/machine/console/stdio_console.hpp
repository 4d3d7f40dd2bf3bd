#pragma once
#include "machine/console/console.hpp"

namespace abyme::machine {

// Standard input and output. On a terminal in raw mode, with an escape key; elsewhere, a pipe say, byte for byte.
[[nodiscard]] std::unique_ptr<Console> make_stdio_console(EventLoop &loop, std::function<void()> quit);

} // namespace abyme::machine
