#include "system/process.hpp"
#include <array>
#include <csignal>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <system_error>

namespace abyme::system_test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

struct Pipe {
  Fd read, write;
};

[[noreturn]] void give_up(const char *what) { throw std::system_error(errno, std::generic_category(), what); }

Pipe make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) give_up("pipe2");
  return {Fd(ends[0]), Fd(ends[1])};
}

Pipe make_terminal() {
  int master = -1, slave = -1;
  if (::openpty(&master, &slave, nullptr, nullptr, nullptr) != 0) give_up("openpty");
  ::fcntl(master, F_SETFD, FD_CLOEXEC);
  ::fcntl(slave, F_SETFD, FD_CLOEXEC);
  return {Fd(master), Fd(slave)};
}

std::vector<char *> pointers(const std::vector<std::string> &texts) {
  std::vector<char *> out;
  for (const auto &text : texts) out.push_back(const_cast<char *>(text.c_str()));
  out.push_back(nullptr);
  return out;
}

struct Streams {
  int input, output, errors;
  bool terminal;
};

// After fork(): no way back.
[[noreturn]] void become(const std::vector<std::string> &arguments, const Process::Setting &setting,
                         const Streams &streams) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::setsid();
  if (streams.terminal) ::ioctl(streams.input, TIOCSCTTY, 0);
  ::dup2(streams.input, STDIN_FILENO);
  ::dup2(streams.output, STDOUT_FILENO);
  ::dup2(streams.errors, STDERR_FILENO);
  for (const auto &line : setting.environment) ::putenv(const_cast<char *>(line.c_str()));
  if (::chdir(setting.directory.c_str()) == 0) ::execv(arguments[0].c_str(), pointers(arguments).data());
  ::_exit(127);
}

// Appends what the descriptor has; closes it at its end, which a terminal tells by EIO.
void drain(Fd &fd, std::string &text) {
  std::array<char, 16384> buffer;
  const ssize_t n = ::read(fd.get(), buffer.data(), buffer.size());
  if (n > 0)
    text.append(buffer.data(), static_cast<size_t>(n));
  else if (n == 0 || (errno != EINTR && errno != EAGAIN))
    fd.reset();
}

} // namespace

Process::Process(const std::vector<std::string> &arguments, const Setting &setting) {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1); // what it leaves behind becomes ours, and has_descendants() sees it
  std::signal(SIGPIPE, SIG_IGN);
  std::vector<std::string> all{ABYME_BINARY};
  all.insert(all.end(), arguments.begin(), arguments.end());
  const bool terminal = setting.input == Input::Terminal;
  Pipe in = terminal ? make_terminal() : make_pipe(), out = make_pipe(), errors = make_pipe();
  const int input = terminal ? in.write.get() : in.read.get();
  const Streams streams{input, terminal ? input : out.write.get(), errors.write.get(), terminal};
  pid_ = ::fork();
  if (pid_ < 0) give_up("fork");
  if (pid_ == 0) become(all, setting, streams);
  input_ = terminal ? std::move(in.read) : std::move(in.write);
  output_fd_ = terminal ? Fd(::fcntl(input_.get(), F_DUPFD_CLOEXEC, 0)) : std::move(out.read);
  errors_fd_ = std::move(errors.read);
}

Process::~Process() {
  if (!status_) {
    ::kill(-pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  while (::waitpid(-1, nullptr, WNOHANG) > 0) {
  }
}

bool Process::read_some(milliseconds limit) {
  // A descriptor that is closed is -1, which poll() passes over.
  pollfd sources[] = {{output_fd_.get(), POLLIN, 0}, {errors_fd_.get(), POLLIN, 0}};
  if (sources[0].fd < 0 && sources[1].fd < 0) return false;
  if (::poll(sources, 2, static_cast<int>(limit.count())) <= 0) return true;
  if (sources[0].revents) drain(output_fd_, output_);
  if (sources[1].revents) drain(errors_fd_, errors_);
  return true;
}

bool Process::says(std::string_view text, seconds limit) {
  const auto deadline = steady_clock::now() + limit;
  for (bool open = true;;) {
    if (const size_t at = output_.find(text, found_); at != std::string::npos) {
      found_ = at + text.size();
      return true;
    }
    if (!open || steady_clock::now() > deadline) return false;
    open = read_some(milliseconds(100));
  }
}

void Process::type(std::string_view text) const {
  while (!text.empty()) {
    const ssize_t n = ::write(input_.get(), text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return; // it has ended, which the test finds out
    text.remove_prefix(static_cast<size_t>(n));
  }
}

void Process::signal(int number) const { ::kill(pid_, number); }

std::optional<int> Process::ends(seconds limit) {
  const auto deadline = steady_clock::now() + limit;
  while (!status_) {
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) == pid_)
      status_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    else if (steady_clock::now() > deadline)
      return std::nullopt;
    else if (!read_some(milliseconds(20)))
      ::usleep(5'000);
  }
  // What it wrote last. A terminal that nobody has open says EIO, a pipe ends; a process left behind may hold either.
  for (int i = 0; i < 50 && read_some(milliseconds(20)); i++) {
  }
  return status_;
}

std::string Process::report() const {
  return "--- standard output:\n" + output_ + "\n--- standard error:\n" + errors_ + "\n---\n";
}

bool has_descendants() { return ::waitpid(-1, nullptr, WNOHANG) >= 0 || errno != ECHILD; }

} // namespace abyme::system_test
