#include "base/log.hpp"
#include <cstdlib>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

namespace abyme::log {
namespace {

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
  case Level::Debug: return spdlog::level::debug;
  case Level::Info: return spdlog::level::info;
  case Level::Warn: return spdlog::level::warn;
  case Level::Error: break;
  }
  return spdlog::level::err;
}

spdlog::logger &logger() {
  static const auto instance = [] {
    auto made = spdlog::stderr_color_mt("abyme");
    made->set_pattern("abyme: %^%l%$: %v");
    const char *wanted = std::getenv("ABYME_LOG");
    made->set_level(wanted ? spdlog::level::from_str(wanted) : spdlog::level::warn);
    return made;
  }();
  return *instance;
}

} // namespace

void write(Level level, std::string_view text) { logger().log(to_spdlog(level), text); }
bool enabled(Level level) { return logger().should_log(to_spdlog(level)); }

} // namespace abyme::log
