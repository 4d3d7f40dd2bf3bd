#include "machine/console/stream_console.hpp"
#include <array>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <deque>
#include <fcntl.h>
#include <mutex>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>

namespace abyme::machine {
namespace {

// A descriptor that never makes the guest wait: what its reader does not take is kept, the oldest of it is lost beyond
// kBacklog.
class StreamConsole : public Console {
public:
  void write(ByteView bytes) override {
    const std::lock_guard lock(mutex_);
    if (output_.empty() && stream_) bytes = bytes.subspan(write_now(bytes));
    output_.insert(output_.end(), bytes.begin(), bytes.end());
    if (std::ssize(output_) > kBacklog) output_.erase(output_.begin(), output_.end() - kBacklog);
    if (!output_.empty()) update_events();
  }

protected:
  explicit StreamConsole(EventLoop &loop) : Console(loop) {}

  [[nodiscard]] Result<void> attach(Fd stream) {
    const std::lock_guard lock(mutex_);
    stream_ = std::move(stream);
    auto watched = loop().watch(stream_.get(), 0, [this](u32 events) { ready(events); });
    if (!watched) {
      stream_.reset();
      return std::unexpected(watched.error());
    }
    watch_ = std::move(*watched);
    update_events();
    return {};
  }
  // The other end has left; on the loop's thread.
  virtual void hung_up() {}
  void detach() {
    const std::lock_guard lock(mutex_);
    watch_.reset();
    stream_.reset();
  }

private:
  static constexpr std::ptrdiff_t kBacklog = 64 << 10;

  void read_input(bool on) override {
    const std::lock_guard lock(mutex_);
    reading_ = on;
    update_events();
  }
  void update_events() { // under mutex_
    if (watch_) watch_->set_events((reading_ ? u32{EPOLLIN} : 0) | (output_.empty() ? 0 : u32{EPOLLOUT}));
  }
  // How much of it was taken. Under mutex_.
  [[nodiscard]] size_t write_now(ByteView bytes) {
    // A client that has left is no reason for SIGPIPE.
    ssize_t written = ::send(stream_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (written < 0 && errno == ENOTSOCK) written = ::write(stream_.get(), bytes.data(), bytes.size());
    return written > 0 ? static_cast<size_t>(written) : 0;
  }
  void flush() {
    const std::lock_guard lock(mutex_);
    if (stream_ && !output_.empty()) {
      const Bytes bytes(output_.begin(), output_.end());
      output_.erase(output_.begin(), output_.begin() + static_cast<std::ptrdiff_t>(write_now(bytes)));
    }
    update_events();
  }
  void ready(u32 events) {
    if (events & EPOLLOUT) flush();
    if (events & EPOLLIN)
      read_some();
    else if (events & (EPOLLHUP | EPOLLERR))
      hung_up();
  }
  void read_some() {
    std::array<u8, 4096> buffer;
    const ssize_t got = ::read(stream_.get(), buffer.data(), buffer.size());
    if (got > 0) return input({buffer.data(), static_cast<size_t>(got)});
    if (got == 0 || (errno != EAGAIN && errno != EINTR)) hung_up();
  }

  std::mutex mutex_; // guards what follows
  Fd stream_;
  std::unique_ptr<EventLoop::Watch> watch_;
  std::deque<u8> output_; // not taken yet
  bool reading_ = true;
};

class PtyConsole final : public StreamConsole {
public:
  explicit PtyConsole(EventLoop &loop) : StreamConsole(loop) {}
  ~PtyConsole() override { detach(); }
  Result<void> open() override {
    Fd host(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
    std::array<char, PATH_MAX> name{};
    if (!host || grantpt(host.get()) != 0 || unlockpt(host.get()) != 0 ||
        ptsname_r(host.get(), name.data(), name.size()) != 0)
      return fail_errno("--console pty: opening a pseudo-terminal");
    // Held open, so that it does not hang up when a user leaves it.
    user_end_ = Fd(::open(name.data(), O_RDWR | O_NOCTTY | O_CLOEXEC));
    termios settings;
    if (!user_end_ || tcgetattr(user_end_.get(), &settings) != 0)
      return fail_errno(std::string("--console pty: ") + name.data());
    cfmakeraw(&settings);
    tcsetattr(user_end_.get(), TCSANOW, &settings);
    fmt::print(stderr, "abyme: the console is {}\n", name.data());
    return attach(std::move(host));
  }

private:
  Fd user_end_;
};

// Takes away a socket that a process left behind when it died; a living one refuses nobody.
void remove_stale(const sockaddr_un &address) {
  struct stat info;
  if (lstat(address.sun_path, &info) != 0 || !S_ISSOCK(info.st_mode)) return;
  const Fd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (connect(probe.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address) != 0 && errno == ECONNREFUSED)
    unlink(address.sun_path);
}

class SocketConsole final : public StreamConsole {
public:
  SocketConsole(EventLoop &loop, std::string path) : StreamConsole(loop), path_(std::move(path)) {}
  ~SocketConsole() override {
    detach();
    accept_watch_.reset();
    if (listener_) unlink(path_.c_str());
  }

  Result<void> open() override {
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    if (path_.size() >= sizeof address.sun_path)
      return fail("--console socket:{}: a socket's path has at most {} characters", path_, sizeof address.sun_path - 1);
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    remove_stale(address);
    Fd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!listener || bind(listener.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address) != 0)
      return fail_errno("--console socket:" + path_);
    listener_ = std::move(listener);
    if (listen(listener_.get(), 1) != 0) return fail_errno("--console socket:" + path_);
    auto watched = loop().watch(listener_.get(), EPOLLIN, [this](u32) { accept_client(); });
    if (!watched) return std::unexpected(watched.error());
    accept_watch_ = std::move(*watched);
    return {};
  }

private:
  void accept_client() {
    Fd client(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!client) return;
    if (attach(std::move(client))) accept_watch_->set_events(0); // the next one waits until this one leaves
  }
  void hung_up() override {
    detach();
    accept_watch_->set_events(EPOLLIN);
  }

  std::string path_;
  Fd listener_;
  std::unique_ptr<EventLoop::Watch> accept_watch_;
};

} // namespace

std::unique_ptr<Console> make_pty_console(EventLoop &loop) { return std::make_unique<PtyConsole>(loop); }

std::unique_ptr<Console> make_socket_console(EventLoop &loop, const std::string &path) {
  return std::make_unique<SocketConsole>(loop, path);
}

} // namespace abyme::machine
