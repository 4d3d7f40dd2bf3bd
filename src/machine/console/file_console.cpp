#include "machine/console/file_console.hpp"
#include <cerrno>
#include <fcntl.h>
#include <poll.h>

namespace abyme::machine {
namespace {

class FileConsole final : public Console {
public:
  FileConsole(EventLoop &loop, std::string path) : Console(loop), path_(std::move(path)) {}
  Result<void> open() override {
    file_ = Fd(::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!file_) return fail_errno("--console file:" + path_);
    return {};
  }
  void write(ByteView bytes) override { write_all(file_.get(), bytes); }

private:
  void read_input(bool) override {} // there is none
  std::string path_;
  Fd file_;
};

class NullConsole final : public Console {
public:
  explicit NullConsole(EventLoop &loop) : Console(loop) {}
  Result<void> open() override { return {}; }
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

std::unique_ptr<Console> make_file_console(EventLoop &loop, const std::string &path) {
  return std::make_unique<FileConsole>(loop, path);
}

std::unique_ptr<Console> make_null_console(EventLoop &loop) { return std::make_unique<NullConsole>(loop); }

} // namespace abyme::machine
