#include "net/ports/options.hpp"

namespace abyme::net {

Result<std::string> text_option(const PortOptions &o, std::string_view key) {
  const auto found = o.find(key);
  if (found == o.end()) return fail("{} is missing", key);
  if (!found->is_string() || found->get_ref<const std::string &>().empty())
    return fail("{} is {}; expected text", key, found->dump());
  return found->get<std::string>();
}

Result<std::string> text_option(const PortOptions &o, std::string_view key, std::string_view otherwise) {
  return o.contains(key) ? text_option(o, key) : Result<std::string>(std::string(otherwise));
}

Result<u64> number_option(const PortOptions &o, std::string_view key, u64 otherwise, u64 lowest, u64 highest) {
  const auto found = o.find(key);
  if (found == o.end()) return otherwise;
  const bool fits = found->is_number_integer() && found->get<i64>() >= 0 && found->get<u64>() >= lowest &&
                    found->get<u64>() <= highest;
  if (!fits) return fail("{} is {}; expected a number from {} to {}", key, found->dump(), lowest, highest);
  return found->get<u64>();
}

Result<bool> flag_option(const PortOptions &o, std::string_view key, bool otherwise) {
  const auto found = o.find(key);
  if (found == o.end()) return otherwise;
  if (!found->is_boolean()) return fail("{} is {}; expected true or false", key, found->dump());
  return found->get<bool>();
}

} // namespace abyme::net
