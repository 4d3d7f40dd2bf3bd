#pragma once
#include "cli/nest/images.hpp"
#include "cli/nest/progress.hpp"

namespace abyme::cli::nest {

// The levels while they work: on a terminal a tree that is drawn again in place, else a line for each change.
class Display {
public:
  Display(bool terminal, const Clock &clock) : terminal_(terminal), clock_(clock), start_(clock.now()) {}
  ~Display();
  Display(const Display &) = delete;
  Display &operator=(const Display &) = delete;

  void message(const std::string &text);
  void update(const Progress &progress, bool changed);

private:
  void draw(const Progress &progress);
  void print_changes(const Progress &progress);
  bool terminal_;
  const Clock &clock_;
  Nanoseconds start_;
  size_t drawn_ = 0; // lines of the tree that stand on the terminal
  std::vector<Level::State> printed_;
};

// For people and for scripts: what each level was and cost.
[[nodiscard]] std::string table(const Options &options, const Progress &progress);
[[nodiscard]] std::string json_report(const Options &options, const Images &images, const Progress &progress);

} // namespace abyme::cli::nest
