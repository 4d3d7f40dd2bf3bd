#pragma once
#include "base/fd.hpp"
#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <vector>

namespace abyme::system_test {

using std::chrono::seconds;

// A program under test, by default abyme, with its input and outputs in the test's hands. It dies with the test, and so
// does all that it started.
class Process {
public:
  enum class Input { Pipe, Terminal };
  struct Setting {
    std::filesystem::path directory = ".";
    std::vector<std::string> environment{}; // NAME=VALUE, besides the test's own
    Input input = Input::Pipe;              // Terminal: standard input and output are a terminal, which it controls
  };
  // Arguments after the name; the name is abyme's.
  explicit Process(const std::vector<std::string> &arguments) : Process(arguments, Setting{}) {}
  Process(const std::vector<std::string> &arguments, const Setting &setting);
  ~Process();
  Process(const Process &) = delete;
  Process &operator=(const Process &) = delete;

  // Whether standard output says `text`, after what an earlier call found, within this time.
  [[nodiscard]] bool says(std::string_view text, seconds limit);
  void type(std::string_view text) const;
  void signal(int number) const;
  // The exit status, 128 + N after signal N (as shells say it); nothing if the time is over.
  [[nodiscard]] std::optional<int> ends(seconds limit);

  [[nodiscard]] const std::string &output() const { return output_; }
  [[nodiscard]] const std::string &errors() const { return errors_; }
  [[nodiscard]] int terminal() const { return input_.get(); }
  // Both outputs, for a message about a failure.
  [[nodiscard]] std::string report() const;

private:
  // Reads what there is, for at most this long; false when both outputs are at their end.
  bool read_some(std::chrono::milliseconds limit);
  pid_t pid_ = -1;
  Fd input_, output_fd_, errors_fd_;
  std::string output_, errors_;
  size_t found_ = 0; // the end of what says() found
  std::optional<int> status_;
};

// Whether a process that this one started, or one that such a process left behind, still runs.
[[nodiscard]] bool has_descendants();

} // namespace abyme::system_test
