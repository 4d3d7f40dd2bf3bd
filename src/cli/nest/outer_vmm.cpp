#include "cli/nest/outer_vmm.hpp"
#include <array>
#include <chrono>
#include <csignal>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <thread>

namespace abyme::cli::nest {
namespace {

std::vector<std::string> arguments(const Options &options, const Images &images) {
  const auto memory = std::to_string(images.memory_mib), cpus = std::to_string(options.cpus);
  if (options.outer == Vmm::Qemu)
    return {"qemu-system-x86_64",
            "-accel",
            "tcg",
            "-cpu",
            "max",
            "-m",
            memory,
            "-smp",
            cpus,
            "-display",
            "none",
            "-monitor",
            "none",
            "-serial",
            "stdio",
            "-no-reboot",
            "-kernel",
            images.kernel.file,
            "-initrd",
            images.initrd,
            "-append",
            command_line()};
  std::vector<std::string> command{
      "/proc/self/exe", "run",          "--accel",   options.accel, "--kernel",   images.kernel.file,
      "--initrd",       images.initrd,  "--memory",  memory + "M",  "--cpus",     cpus,
      "--append",       command_line(), "--console", "stdio",       "--no-reboot"};
  if (!options.stats.empty()) command.insert(command.end(), {"--stats", options.stats});
  return command;
}

// In the child. A group of its own: Ctrl-C on the terminal is the front end's business.
[[noreturn]] void become(const std::vector<std::string> &arguments, int output) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int input = ::open("/dev/null", O_RDONLY);
  ::dup2(input, STDIN_FILENO);
  ::dup2(output, STDOUT_FILENO);
  ::dup2(output, STDERR_FILENO);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  std::vector<char *> argv;
  for (const auto &argument : arguments) argv.push_back(const_cast<char *>(argument.c_str()));
  argv.push_back(nullptr);
  ::execvp(argv[0], argv.data());
  fmt::print(stderr, "{}: {}\n", argv[0], strerror(errno));
  ::_exit(127);
}

} // namespace

Result<OuterVmm> OuterVmm::start(const Options &options, const Images &images) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno("pipe");
  Fd read(ends[0]), write(ends[1]);
  const auto command = arguments(options, images);
  const pid_t pid = ::fork();
  if (pid < 0) return fail_errno("fork");
  if (pid == 0) become(command, write.get());
  ::fcntl(read.get(), F_SETFL, O_NONBLOCK);
  return OuterVmm(pid, std::move(read));
}

OuterVmm::~OuterVmm() {
  if (pid_ > 0) (void)wait(true);
}

bool OuterVmm::read(const std::function<void(std::string_view)> &line) {
  std::array<char, 4096> buffer;
  for (;;) {
    const ssize_t n = ::read(output_.get(), buffer.data(), buffer.size());
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    if (n == 0) return false;
    partial_.append(buffer.data(), static_cast<size_t>(n));
    for (size_t end; (end = partial_.find('\n')) != partial_.npos;) {
      line(std::string_view(partial_).substr(0, end));
      partial_.erase(0, end + 1);
    }
  }
}

int OuterVmm::wait(bool stop) {
  using namespace std::chrono;
  constexpr auto kGrace = seconds(5);
  const pid_t pid = std::exchange(pid_, 0);
  if (stop) ::kill(pid, SIGTERM);
  const auto deadline = steady_clock::now() + kGrace;
  int status = 0;
  for (pid_t done = 0; done == 0;) {
    done = ::waitpid(pid, &status, WNOHANG);
    if (done != 0) break;
    if (steady_clock::now() > deadline) ::kill(pid, SIGKILL);
    std::this_thread::sleep_for(milliseconds(10));
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

} // namespace abyme::cli::nest
