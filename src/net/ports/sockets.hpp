#pragma once
#include "base/fd.hpp"
#include "base/result.hpp"
#include <string>

namespace abyme::net {

// Unix stream sockets, non-blocking. listen_unix() replaces a stale socket file but not one that somebody still serves,
// nor any other file.
[[nodiscard]] Result<Fd> listen_unix(const std::string &path);
[[nodiscard]] Result<Fd> connect_unix(const std::string &path);
[[nodiscard]] Fd accept_unix(const Fd &listener); // empty when nobody waits

} // namespace abyme::net
