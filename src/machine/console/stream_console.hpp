#pragma once
#include "machine/console/console.hpp"

namespace abyme::machine {

// A new pseudo-terminal, whose name is said on standard error.
[[nodiscard]] std::unique_ptr<Console> make_pty_console(EventLoop &loop);
// A listening UNIX socket that serves one client at a time. The last of the output waits for whom comes next.
[[nodiscard]] std::unique_ptr<Console> make_socket_console(EventLoop &loop, const std::string &path);

} // namespace abyme::machine
