#pragma once
#include "machine/console/console.hpp"

namespace abyme::machine {

[[nodiscard]] std::unique_ptr<Console> make_file_console(EventLoop &loop, const std::string &path);
[[nodiscard]] std::unique_ptr<Console> make_null_console(EventLoop &loop);

// Writes all of it, waiting where the descriptor makes us wait. False when the other end is gone.
bool write_all(int fd, ByteView bytes);

} // namespace abyme::machine
