#include "image/program.hpp"
#include "base/fd.hpp"
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>

namespace abyme::image {
namespace {

struct Pipe {
  Fd read, write;
};

Result<Pipe> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno("pipe");
  return Pipe{Fd(ends[0]), Fd(ends[1])};
}

Result<pid_t> spawn(const std::vector<std::string> &arguments, const std::string &directory, int output, int errors) {
  std::vector<char *> argv;
  for (const auto &argument : arguments) argv.push_back(const_cast<char *>(argument.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, errors, STDERR_FILENO);
  posix_spawn_file_actions_addchdir_np(&actions, directory.c_str());
  pid_t pid = 0;
  const int error = ::posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  errno = error;
  if (error != 0) return fail_errno(arguments[0]);
  return pid;
}

// Both streams to their ends, together: a program that fills one pipe while we wait for the other would never end.
void collect(const Fd &output, const Fd &errors, std::string &out, std::string &err) {
  std::array<pollfd, 2> streams{{{output.get(), POLLIN, 0}, {errors.get(), POLLIN, 0}}};
  const std::array<std::string *, 2> texts{&out, &err};
  std::array<char, 65536> buffer;
  for (int open = 2; open > 0;) {
    if (::poll(streams.data(), streams.size(), -1) < 0 && errno != EINTR) return;
    for (size_t i = 0; i < streams.size(); i++) {
      if (streams[i].fd < 0 || streams[i].revents == 0) continue;
      const ssize_t n = ::read(streams[i].fd, buffer.data(), buffer.size());
      if (n > 0) {
        texts[i]->append(buffer.data(), static_cast<size_t>(n));
      } else {
        streams[i].fd = -1;
        open--;
      }
    }
  }
}

std::string last_line(std::string_view text) {
  while (text.ends_with('\n')) text.remove_suffix(1);
  return std::string(text.substr(text.rfind('\n') + 1));
}

} // namespace

Result<std::string> run_program(const std::vector<std::string> &arguments, const std::string &directory) {
  auto output = make_pipe(), errors = make_pipe();
  if (!output) return std::unexpected(output.error());
  if (!errors) return std::unexpected(errors.error());
  const auto pid = spawn(arguments, directory, output->write.get(), errors->write.get());
  if (!pid) return std::unexpected(pid.error());
  output->write.reset();
  errors->write.reset();
  std::string out, err;
  collect(output->read, errors->read, out, err);
  int status = 0;
  while (::waitpid(*pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return out;
  return fail("{} failed: {}", arguments[0], err.empty() ? "it says nothing of why" : last_line(err));
}

} // namespace abyme::image
