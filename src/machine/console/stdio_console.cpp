#include "machine/console/stdio_console.hpp"
#include "machine/console/escape_filter.hpp"
#include "machine/console/file_console.hpp"
#include "machine/console/raw_terminal.hpp"
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <sys/signalfd.h>

namespace abyme::machine {
namespace {

// What is typed ahead of a guest that takes nothing; the rest of it is lost, as on any terminal.
constexpr size_t kTypeAhead = 4096;

class StdioConsole final : public Console {
public:
  StdioConsole(EventLoop &loop, std::function<void()> quit) : Console(loop), quit_(std::move(quit)) {}

  Result<void> open() override {
    if (auto watched = loop().watch(STDIN_FILENO, EPOLLIN, [this](u32) { read_some(); }))
      watch_ = std::move(*watched);
    else
      can_watch_ = false; // a regular file or /dev/null, which is always ready
    // In the background a terminal is not ours to change, nor to read.
    if (!isatty(STDIN_FILENO) || tcgetpgrp(STDIN_FILENO) != getpgrp()) return {};
    auto terminal = RawTerminal::enter(STDIN_FILENO);
    if (!terminal) return std::unexpected(terminal.error());
    terminal_ = std::move(*terminal);
    fmt::print(stderr, "abyme: Ctrl-] q ends the VM; Ctrl-] Ctrl-] types Ctrl-]\n");
    return watch_continue();
  }

  void write(ByteView bytes) override {
    if (!gone_ && !write_all(STDOUT_FILENO, bytes)) gone_ = true;
  }

private:
  // After `kill -STOP` or its like the shell has had the terminal.
  Result<void> watch_continue() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCONT);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    continued_ = Fd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    auto watched = loop().watch(continued_.get(), EPOLLIN, [this](u32) {
      signalfd_siginfo info;
      while (::read(continued_.get(), &info, sizeof info) > 0) terminal_->again();
    });
    if (!watched) return std::unexpected(watched.error());
    continue_watch_ = std::move(*watched);
    return {};
  }

  // A terminal is always read: the escape key must work most of all when the guest takes no input.
  void read_input(bool on) override {
    if (ended_ || terminal_) return;
    if (watch_)
      watch_->set_events(on ? u32{EPOLLIN} : 0);
    else if (on && !can_watch_)
      loop().post([this] { read_some(); });
  }

  void read_some() {
    std::array<u8, 4096> buffer;
    const ssize_t got = ::read(STDIN_FILENO, buffer.data(), buffer.size());
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) return end_input();
    const ByteView bytes(buffer.data(), static_cast<size_t>(got));
    if (!terminal_) return input(bytes);
    const auto typed = escapes_.filter(bytes);
    if (typed.quit) quit_();
    if (waiting() < kTypeAhead) input(typed.input);
  }

  void end_input() {
    ended_ = true;
    watch_.reset();
    if (terminal_) quit_(); // the terminal hung up
  }

  std::function<void()> quit_;
  EscapeFilter escapes_;
  std::unique_ptr<EventLoop::Watch> watch_;
  bool can_watch_ = true;
  bool ended_ = false;
  std::atomic<bool> gone_ = false; // nobody reads our output any more
  Fd continued_;
  std::unique_ptr<EventLoop::Watch> continue_watch_;
  std::unique_ptr<RawTerminal> terminal_;
};

} // namespace

std::unique_ptr<Console> make_stdio_console(EventLoop &loop, std::function<void()> quit) {
  return std::make_unique<StdioConsole>(loop, std::move(quit));
}

} // namespace abyme::machine
