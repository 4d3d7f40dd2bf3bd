#include "net/ports/passt/passt.hpp"
#include "net/ports/finish.hpp"
#include "net/ports/options.hpp"
#include "net/ports/sockets.hpp"
#include <cerrno>
#include <csignal>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace abyme::net {
namespace {

constexpr Nanoseconds kRetry = 200'000'000;
constexpr std::size_t kBehind = 4u << 20; // bytes that passt may leave unread

// The passt process, when it is ours; it ends with us.
class Child {
public:
  Child() = default;
  Child(const Child &) = delete;
  Child &operator=(const Child &) = delete;
  ~Child() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL); // it keeps nothing that it would have to put away
    waitpid(pid_, nullptr, 0);
  }
  Result<void> start(const std::string &socket) {
    const char *arguments[] = {"passt", "--foreground", "--quiet", "--one-off", "--socket", socket.c_str(), nullptr};
    posix_spawnattr_t attributes;
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none); // the switch reads its signals from a descriptor, and blocks them
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    const int error = posix_spawnp(&pid_, "passt", nullptr, &attributes, const_cast<char **>(arguments), environ);
    posix_spawnattr_destroy(&attributes);
    if (error == 0) return {};
    errno = error;
    return fail_errno("cannot start passt (Debian's package is passt)");
  }

private:
  pid_t pid_ = -1;
};

// Frames over a stream socket, each behind its length in four bytes, as QEMU's -netdev stream has them.
class PasstPort final : public PortDevice {
public:
  PasstPort(const PortContext &context, std::string path, std::unique_ptr<Child> child)
      : context_(context), path_(std::move(path)), child_(std::move(child)) {
    try_connect();
  }
  ~PasstPort() override {
    if (timer_) context_.loop.cancel(timer_);
    if (socket_) context_.loop.unwatch(socket_.get());
    if (!child_) return;
    unlink(path_.c_str());
    rmdir(path_.substr(0, path_.rfind('/')).c_str());
  }

  void transmit(std::span<Egress> frames) override {
    for (Egress &e : frames) send_finished(e, {}, scratch_, [&](const Frame &f, TagEdit edit) { return put(f, edit); });
    flush();
  }
  nlohmann::json describe() const override { return {{"path", path_}, {"own", child_ != nullptr}}; }

private:
  void try_connect() {
    timer_ = 0;
    auto socket = connect_unix(path_);
    if (!socket) {
      timer_ = context_.loop.at(context_.loop.clock().now() + kRetry, [this] { try_connect(); });
      return;
    }
    socket_ = std::move(*socket);
    watch();
    context_.host.connected(true);
  }
  void watch() {
    context_.loop.watch(socket_.get(), EPOLLIN | (out_.empty() ? 0u : u32{EPOLLOUT}), [this](u32 events) {
      if (events & EPOLLOUT) flush();
      if (socket_ && events & ~u32{EPOLLOUT}) receive();
    });
  }
  void disconnect() {
    context_.loop.unwatch(socket_.get());
    socket_.reset();
    in_.clear();
    out_.clear();
    context_.host.connected(false);
    timer_ = context_.loop.at(context_.loop.clock().now() + kRetry, [this] { try_connect(); });
  }

  DropReason put(const Frame &f, TagEdit edit) {
    if (!socket_) return DropReason::Disconnected;
    const u32 length = wire_length(f, edit);
    if (out_.size() + length > kBehind) return DropReason::QueueFull;
    const std::size_t at = out_.size();
    out_.resize(at + 4 + length);
    store_be32(&out_[at], length);
    copy_wire(f, edit, &out_[at + 4]);
    return DropReason::None;
  }
  void flush() {
    if (!socket_ || out_.empty()) return;
    const ssize_t n = send(socket_.get(), out_.data(), out_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) return fail_later();
    if (n > 0) out_.erase(out_.begin(), out_.begin() + n);
    if (out_.empty() == waiting_) {
      waiting_ = !out_.empty();
      watch();
    }
  }
  // Called from the switch's delivery, where ports must not come or go: the loop ends the connection.
  void fail_later() { shutdown(socket_.get(), SHUT_RDWR); }

  void receive() {
    const std::size_t had = in_.size();
    in_.resize(had + 256 * 1024);
    const ssize_t n = recv(socket_.get(), &in_[had], in_.size() - had, MSG_DONTWAIT);
    in_.resize(had + static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
    if (n == 0 || (n < 0 && errno != EAGAIN)) return disconnect();
    std::size_t at = 0;
    batch_.clear();
    while (in_.size() - at >= 4) {
      const u32 length = load_be32(&in_[at]);
      if (length > kMaxFrame) {
        context_.host.misbehaved(fmt::format("passt announces a frame of {} bytes; its connection is closed", length));
        return disconnect();
      }
      if (in_.size() - at < 4 + length) break;
      if (!batch_.add({&in_[at + 4], length})) {
        context_.host.received(batch_.frames());
        batch_.clear();
        continue;
      }
      at += 4 + length;
    }
    in_.erase(in_.begin(), in_.begin() + static_cast<long>(at));
    if (!batch_.empty()) context_.host.received(batch_.frames());
  }

  PortContext context_;
  std::string path_;
  std::unique_ptr<Child> child_;
  Fd socket_;
  std::vector<u8> in_, out_;
  bool waiting_ = false;
  Loop::TimerId timer_ = 0;
  FrameBatch batch_, scratch_;
};

Result<std::unique_ptr<Child>> start_own(const char *directory, const std::string &socket) {
  constexpr uid_t kNobody = 65534; // to whom passt changes when root starts it
  if (geteuid() == 0 && chown(directory, kNobody, kNobody)) return fail_errno("cannot give passt its directory");
  auto child = std::make_unique<Child>();
  if (auto ok = child->start(socket); !ok) return std::unexpected(ok.error());
  return child;
}

Result<std::unique_ptr<PortDevice>> open_port(const PortContext &context, const PortOptions &o) {
  const auto path = text_option(o, "path", "-");
  if (!path) return std::unexpected(path.error());
  if (*path != "-") return std::make_unique<PasstPort>(context, *path, nullptr);
  char directory[] = "/tmp/abyme-passt-XXXXXX";
  if (!mkdtemp(directory)) return fail_errno("cannot make a directory for passt's socket");
  const std::string socket = std::string(directory) + "/socket";
  auto child = start_own(directory, socket);
  if (!child) {
    rmdir(directory);
    return std::unexpected(child.error());
  }
  return std::make_unique<PasstPort>(context, socket, std::move(*child));
}

} // namespace

const PortKind kPasstPort{"passt", "path", true, open_port};

} // namespace abyme::net
