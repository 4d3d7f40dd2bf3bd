#include "cli/text.hpp"

namespace abyme::cli {

std::string wrap(std::string_view text, size_t used, size_t indent) {
  std::string out;
  size_t column = used;
  bool line_is_empty = true;
  while (!text.empty()) {
    const size_t space = text.find(' ');
    const auto word = text.substr(0, space);
    text.remove_prefix(space == text.npos ? text.size() : space + 1);
    if (!line_is_empty && column + 1 + word.size() > kColumns) {
      out += '\n';
      out.append(indent, ' ');
      column = indent;
      line_is_empty = true;
    }
    if (!line_is_empty) out += ' ', ++column;
    out += word;
    column += word.size();
    line_is_empty = false;
  }
  return out;
}

} // namespace abyme::cli
