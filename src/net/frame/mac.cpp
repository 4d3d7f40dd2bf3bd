#include "net/frame/mac.hpp"
#include <charconv>

namespace abyme::net {

Result<MacAddress> parse_mac(std::string_view text) {
  const auto bad = [&] {
    return fail("'{}' is no MAC address; expected six hexadecimal bytes, like 52:54:00:12:34:56", text);
  };
  if (text.size() != 17) return bad();
  MacAddress mac;
  for (unsigned i = 0; i < 17; i += 3) {
    u8 byte = 0;
    const char *end = text.data() + i + 2;
    if (std::from_chars(text.data() + i, end, byte, 16).ptr != end) return bad();
    if (i < 15 && *end != ':' && *end != '-') return bad();
    mac.value = mac.value << 8 | byte;
  }
  return mac;
}

std::string to_string(MacAddress mac) {
  const auto byte = [&](int i) { return static_cast<u8>(mac.value >> (8 * i)); };
  return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", byte(5), byte(4), byte(3), byte(2), byte(1), byte(0));
}

} // namespace abyme::net
