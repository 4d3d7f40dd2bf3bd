#pragma once
#include <string>
#include <string_view>

namespace abyme::cli {

constexpr size_t kColumns = 80;

// `text` in lines of at most kColumns, all but the first indented. The first begins at column `used` (its prefix is the
// caller's). A word that fits no line stands alone on one.
[[nodiscard]] std::string wrap(std::string_view text, size_t used, size_t indent);

} // namespace abyme::cli
