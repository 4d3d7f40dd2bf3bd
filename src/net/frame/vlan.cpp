#include "net/frame/vlan.hpp"
#include <charconv>
#include <optional>

namespace abyme::net {
namespace {

std::optional<VlanId> number(std::string_view text) {
  u16 v = 0;
  const char *end = text.data() + text.size();
  const auto [ptr, error] = std::from_chars(text.data(), end, v);
  if (error != std::errc() || ptr != end || v > kLastVlan) return std::nullopt;
  return VlanId{v};
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

} // namespace

Result<VlanSet> parse_vlans(std::string_view text) {
  VlanSet set;
  if (text == "all" || text == "4095") {
    set.add(kNoVlan, VlanId{kLastVlan});
    return set;
  }
  while (true) {
    const auto comma = text.find(',');
    const auto item = trimmed(text.substr(0, comma));
    const auto dash = item.find('-');
    const auto first = number(trimmed(item.substr(0, dash)));
    const auto last = dash == std::string_view::npos ? first : number(trimmed(item.substr(dash + 1)));
    if (!first || !last || *last < *first)
      return fail("'{}' is no VLAN range; expected numbers from 0 to 4094, like 10 or 20-29", item);
    set.add(*first, *last);
    if (comma == std::string_view::npos) return set;
    text.remove_prefix(comma + 1);
  }
}

std::string to_string(const VlanSet &set) {
  std::string out;
  for (unsigned v = 0; v < kVlanCount; v++) {
    if (!set.has(VlanId{static_cast<u16>(v)})) continue;
    unsigned last = v;
    while (last + 1 < kVlanCount && set.has(VlanId{static_cast<u16>(last + 1)})) last++;
    out += fmt::format("{}{}", out.empty() ? "" : ",", v);
    if (last > v) out += fmt::format("-{}", last);
    v = last;
  }
  return out;
}

} // namespace abyme::net
