#include "cli/nest/progress.hpp"
#include <algorithm>
#include <charconv>
#include <fmt/format.h>

namespace abyme::cli::nest {
namespace {

using State = Level::State;

constexpr size_t kRememberedLines = 20;

// The value of "key=" in `text`, up to a space; empty if it is not there.
std::string_view value_of(std::string_view text, std::string_view key) {
  const size_t at = text.find(key);
  if (at == text.npos) return {};
  const auto value = text.substr(at + key.size());
  return value.substr(0, value.find(' '));
}

template <class T> std::optional<T> number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

// Of VMMs that are told apart by their first line: "abyme: engine soft: ...".
std::string_view engine_of(std::string_view text) {
  constexpr std::string_view kPrefix = "abyme: engine ";
  if (!text.starts_with(kPrefix)) return {};
  text.remove_prefix(kPrefix.size());
  return text.substr(0, text.find(':'));
}

// What a terminal would not show: carriage returns, control characters, escape sequences of firmware.
std::string printable(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); i++) {
    if (text[i] == '\x1b') {
      while (i + 1 < text.size() && !std::isalpha(static_cast<unsigned char>(text[i]))) i++;
    } else if (text[i] == '\t' || static_cast<unsigned char>(text[i]) >= ' ') {
      out += text[i];
    }
  }
  return out;
}

} // namespace

std::string_view name(State state) {
  switch (state) {
  case State::Waiting: return "waiting";
  case State::Boot: return "boot";
  case State::Up: return "up";
  case State::Measuring: return "measuring";
  case State::Hosting: return "hosting";
  case State::Done: return "done";
  case State::Failed: return "failed";
  }
  return "?";
}

void Progress::set(size_t index, State state) {
  levels_[index].state = state;
  levels_[index].changed = clock_.now();
}

void Progress::start(std::string engine) {
  levels_[0].started = clock_.now();
  levels_[0].engine = std::move(engine);
  set(0, State::Boot);
}

void Progress::remember(size_t index, std::string_view text) {
  if (text.empty()) return;
  if (last_lines_.size() == kRememberedLines) last_lines_.erase(last_lines_.begin());
  last_lines_.push_back(fmt::format("L{} {}", index + 1, text));
}

bool Progress::line(std::string_view raw) {
  const auto clean = printable(raw);
  std::string_view text = clean;
  size_t index = 0;
  for (; text.starts_with("| ") && index + 1 < levels_.size(); index++) text.remove_prefix(2);
  constexpr std::string_view kOurs = "@abyme ";
  if (const size_t at = text.find(kOurs); at != text.npos) return note(index, text.substr(at + kOurs.size()));
  if (const auto engine = engine_of(text); !engine.empty())
    levels_[index].engine = engine;
  else
    remember(index, text);
  return false;
}

bool Progress::note(size_t index, std::string_view text) {
  Level &level = levels_[index];
  const auto word = text.substr(0, text.find(' '));
  if (word == "up") {
    level.up = clock_.now();
    level.kernel = value_of(text, "kernel=");
    set(index, State::Measuring);
  } else if (word == "measured") {
    if (const auto tenths = number<u64>(value_of(text, "cpuid_tenths_ns=")))
      level.cpuid_ns = static_cast<double>(*tenths) / 10;
    set(index, State::Up);
  } else if (word == "output") {
    level.output.emplace_back(text.substr(std::min(text.size(), word.size() + 1)));
    return false;
  } else if (word == "starting" && index + 1 < levels_.size()) {
    level.kvm = value_of(text, "kvm=");
    set(index, State::Hosting);
    levels_[index + 1].started = clock_.now();
    levels_[index + 1].engine = "kvm";
    set(index + 1, State::Boot);
  } else if (word == "ended") {
    ended(index, number<int>(value_of(text, "status=")).value_or(-1));
  } else if (word == "done") {
    set(index, State::Done);
  } else {
    return false;
  }
  return true;
}

void Progress::ended(size_t index, int status) {
  levels_[index].vmm_status = status;
  if (levels_[index].state != State::Done || status != 0) set(index, State::Failed);
}

void Progress::end(int vmm_status) {
  ended(0, vmm_status);
  for (size_t i = 1; i < levels_.size(); i++)
    if (levels_[i].state != State::Done && levels_[i].state != State::Waiting) set(i, State::Failed);
}

bool Progress::complete() const {
  return std::ranges::all_of(levels_, [](const Level &level) { return level.state == State::Done; });
}

unsigned Progress::failed_level() const {
  // The innermost that was tried: those around it fail with it.
  for (size_t i = levels_.size(); i > 0; i--)
    if (levels_[i - 1].state == State::Failed) return static_cast<unsigned>(i);
  return complete() ? 0 : static_cast<unsigned>(levels_.size());
}

} // namespace abyme::cli::nest
