#pragma once
#include "base/clock.hpp"
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace abyme::cli::nest {

// What the front end knows of a level.
struct Level {
  enum class State { Waiting, Boot, Up, Measuring, Hosting, Done, Failed };
  State state = State::Waiting;
  Nanoseconds started = 0;       // its VMM did
  std::optional<Nanoseconds> up; // its init ran
  Nanoseconds changed = 0;       // to the present state
  std::string engine;            // "soft", "kvm", "tcg"
  std::string kernel;
  std::string kvm; // the module that makes it a hypervisor; empty in the innermost level
  std::optional<double> cpuid_ns;
  std::optional<int> vmm_status;   // of the process that ran it
  std::vector<std::string> output; // of the user's program
};

[[nodiscard]] std::string_view name(Level::State state);

// Follows what the consoles say. A line is the business of the level given by the number of "| " before it, counted
// from L1; lines that begin with "@abyme " are for us, all others are the guest's.
class Progress {
public:
  Progress(unsigned levels, const Clock &clock) : clock_(clock), levels_(levels) {}

  void start(std::string engine); // L1's VMM has been started
  // Whether a level changed its state.
  bool line(std::string_view text);
  void end(int vmm_status); // L1's VMM has ended

  [[nodiscard]] const std::vector<Level> &levels() const { return levels_; }
  [[nodiscard]] bool complete() const;
  // The first level that did not make it, counted from 1; 0 if all did.
  [[nodiscard]] unsigned failed_level() const;
  // The last lines that were not for us, each with its level.
  [[nodiscard]] const std::vector<std::string> &last_lines() const { return last_lines_; }

private:
  bool note(size_t index, std::string_view text);
  void set(size_t index, Level::State state);
  void ended(size_t index, int status);
  void remember(size_t index, std::string_view text);
  const Clock &clock_;
  std::vector<Level> levels_;
  std::vector<std::string> last_lines_;
};

} // namespace abyme::cli::nest
