#pragma once
#include <fmt/format.h>
#include <string_view>

// Log lines go to standard error; data goes to standard output. The level comes from ABYME_LOG (debug, info, warn, error; default warn).
namespace abyme::log {

enum class Level { Debug, Info, Warn, Error };

void write(Level level, std::string_view text);
[[nodiscard]] bool enabled(Level level);

template <class... A> void debug(fmt::format_string<A...> f, A &&...a) {
  if (enabled(Level::Debug)) write(Level::Debug, fmt::format(f, std::forward<A>(a)...));
}
template <class... A> void info(fmt::format_string<A...> f, A &&...a) {
  if (enabled(Level::Info)) write(Level::Info, fmt::format(f, std::forward<A>(a)...));
}
template <class... A> void warn(fmt::format_string<A...> f, A &&...a) {
  if (enabled(Level::Warn)) write(Level::Warn, fmt::format(f, std::forward<A>(a)...));
}
template <class... A> void error(fmt::format_string<A...> f, A &&...a) {
  write(Level::Error, fmt::format(f, std::forward<A>(a)...));
}

} // namespace abyme::log
