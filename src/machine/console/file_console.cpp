#include "machine/console/file_console.hpp"
#include <cerrno>
#include <fcntl.h>
#include <poll.h>

namespace abyme::machine {
namespace {

class FileConsole final : public Console {
public:
  FileConsole(EventLoop &loop, Fd file) : Console(loop), file_(std::move(file)) {}
  void write(ByteView bytes) override { write_all(file_.get(), bytes); }

private:
  void read_input(bool) override {} // there is none
  Fd file_;
};

class NullConsole final : public Console {
public:
  explicit NullConsole(EventLoop &loop) : Console(loop) {}
  void write(ByteView) override {} // nobody looks

private:
  void read_input(bool) override {}
};

} // namespace

bool write_all(int fd, ByteView bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written > 0) {
      bytes = bytes.subspan(static_cast<size_t>(written));
    } else if (errno == EAGAIN) {
      pollfd wait{.fd = fd, .events = POLLOUT, .revents = 0};
      ::poll(&wait, 1, -1);
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

Result<std::unique_ptr<Console>> open_file_console(EventLoop &loop, const std::string &path) {
  Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!file) return fail_errno("--console file:" + path);
  return std::make_unique<FileConsole>(loop, std::move(file));
}

Result<std::unique_ptr<Console>> open_null_console(EventLoop &loop) { return std::make_unique<NullConsole>(loop); }

} // namespace abyme::machine
