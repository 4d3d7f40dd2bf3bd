#include "net/control/client.hpp"
#include "net/ports/sockets.hpp"
#include <fcntl.h>
#include <unistd.h>

namespace abyme::net {
namespace {

Result<Fd> connect_to(const std::string &path) {
  auto fd = connect_unix(path);
  if (!fd) return fail("{}; is the switch running? (--switch names another one)", fd.error().message);
  fcntl(fd->get(), F_SETFL, fcntl(fd->get(), F_GETFL) & ~O_NONBLOCK);
  return fd;
}

Result<void> write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n <= 0) return fail_errno("cannot write");
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return {};
}

// Reads up to the end of a line; what came behind it stays in `rest`.
Result<nlohmann::json> read_reply(int fd, std::string &rest) {
  char buffer[65536];
  while (rest.find('\n') == std::string::npos) {
    const ssize_t n = read(fd, buffer, sizeof buffer);
    if (n <= 0) return fail("the switch ended the connection without an answer");
    rest.append(buffer, static_cast<std::size_t>(n));
  }
  const auto end = rest.find('\n');
  const auto reply = nlohmann::json::parse(rest.substr(0, end), nullptr, false);
  rest.erase(0, end + 1);
  if (!reply.is_object() || !reply.contains("ok"))
    return fail("the switch's answer makes no sense; is it another version?");
  if (reply["ok"] != true) return std::unexpected(Error{reply.value("error", "refused without a reason")});
  return reply.value("result", nlohmann::json());
}

} // namespace

Result<nlohmann::json> control_request(const std::string &path, const nlohmann::json &request) {
  const auto fd = connect_to(path);
  if (!fd) return std::unexpected(fd.error());
  if (auto ok = write_all(fd->get(), request.dump() + "\n"); !ok) return std::unexpected(ok.error());
  std::string rest;
  return read_reply(fd->get(), rest);
}

Result<void> control_capture(const std::string &path, const std::string &target, const std::string &filter,
                             const std::string &file) {
  const auto fd = connect_to(path);
  if (!fd) return std::unexpected(fd.error());
  const nlohmann::json request = {{"op", "capture"}, {"target", target}, {"filter", filter}};
  if (auto ok = write_all(fd->get(), request.dump() + "\n"); !ok) return ok;
  std::string bytes;
  if (auto reply = read_reply(fd->get(), bytes); !reply) return std::unexpected(reply.error());
  const bool to_stdout = file.empty() || file == "-";
  const Fd out(to_stdout ? dup(STDOUT_FILENO) : open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!out) return fail_errno(fmt::format("cannot write '{}'", file));
  char buffer[65536];
  while (true) {
    if (auto ok = write_all(out.get(), bytes); !ok) return ok;
    const ssize_t n = read(fd->get(), buffer, sizeof buffer);
    if (n <= 0) return {};
    bytes.assign(buffer, static_cast<std::size_t>(n));
  }
}

} // namespace abyme::net
