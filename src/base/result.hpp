#pragma once
#include <expected>
#include <fmt/format.h>
#include <string>
#include <utility>

namespace abyme {

// What went wrong, said for the person who can mend it: the thing, what was wrong with it, and what would be right.
struct Error {
  std::string message;
};

template <class T> using Result = std::expected<T, Error>;

template <class... Args> [[nodiscard]] std::unexpected<Error> fail(fmt::format_string<Args...> text, Args &&...args) {
  return std::unexpected(Error{fmt::format(text, std::forward<Args>(args)...)});
}

// fail() with the meaning of errno at its end.
[[nodiscard]] std::unexpected<Error> fail_errno(std::string what);

} // namespace abyme
