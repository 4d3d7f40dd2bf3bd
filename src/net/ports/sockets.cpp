#include "net/ports/sockets.hpp"
#include <cstring>
#include <filesystem>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

namespace abyme::net {
namespace {

Result<sockaddr_un> address_of(const std::string &path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path)
    return fail("socket path '{}' has {} bytes; 1 to {} fit", path, path.size(), sizeof address.sun_path - 1);
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

Result<void> remove_stale(const std::string &path) {
  struct stat info = {};
  if (lstat(path.c_str(), &info)) return {};
  if (!S_ISSOCK(info.st_mode)) return fail("'{}' exists and is no socket; choose another path or remove it", path);
  if (connect_unix(path)) return fail("'{}' is served by a running process already", path);
  unlink(path.c_str());
  return {};
}

} // namespace

Result<Fd> listen_unix(const std::string &path) {
  const auto address = address_of(path);
  if (!address) return std::unexpected(address.error());
  if (auto ok = remove_stale(path); !ok) return std::unexpected(ok.error());
  std::error_code ignored; // bind() says it better
  if (const auto parent = std::filesystem::path(path).parent_path(); !parent.empty())
    std::filesystem::create_directories(parent, ignored);
  Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd || bind(fd.get(), reinterpret_cast<const sockaddr *>(&*address), sizeof *address) || listen(fd.get(), 64))
    return fail_errno(fmt::format("cannot listen at '{}'", path));
  return fd;
}

Result<Fd> connect_unix(const std::string &path) {
  const auto address = address_of(path);
  if (!address) return std::unexpected(address.error());
  Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd || connect(fd.get(), reinterpret_cast<const sockaddr *>(&*address), sizeof *address))
    return fail_errno(fmt::format("cannot connect to '{}'", path));
  return fd;
}

Fd accept_unix(const Fd &listener) {
  return Fd(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

} // namespace abyme::net
