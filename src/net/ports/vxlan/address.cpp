#include "net/ports/vxlan/address.hpp"
#include <arpa/inet.h>
#include <charconv>
#include <cstring>

namespace abyme::net {

bool UdpAddress::same_host(const UdpAddress &other) const {
  if (storage.ss_family != other.storage.ss_family) return false;
  if (storage.ss_family == AF_INET)
    return reinterpret_cast<const sockaddr_in &>(storage).sin_addr.s_addr ==
           reinterpret_cast<const sockaddr_in &>(other.storage).sin_addr.s_addr;
  return !std::memcmp(&reinterpret_cast<const sockaddr_in6 &>(storage).sin6_addr,
                      &reinterpret_cast<const sockaddr_in6 &>(other.storage).sin6_addr, 16);
}

bool UdpAddress::is_multicast() const {
  if (storage.ss_family == AF_INET)
    return IN_MULTICAST(ntohl(reinterpret_cast<const sockaddr_in &>(storage).sin_addr.s_addr));
  return reinterpret_cast<const sockaddr_in6 &>(storage).sin6_addr.s6_addr[0] == 0xff;
}

Result<UdpAddress> parse_udp_address(const std::string &text, u16 port) {
  const auto bad = [&] {
    return fail("'{}' is no IP address; expected one like 192.0.2.1, 192.0.2.1:4789, 2001:db8::1 or [2001:db8::1]:4789",
                text);
  };
  std::string host = text, port_text;
  if (text.starts_with('[')) {
    const auto end = text.find(']');
    if (end == std::string::npos) return bad();
    host = text.substr(1, end - 1);
    if (end + 1 < text.size()) port_text = text.substr(end + 2);
  } else if (const auto colon = text.find(':');
             colon != std::string::npos && text.find(':', colon + 1) == std::string::npos) {
    host = text.substr(0, colon);
    port_text = text.substr(colon + 1);
  }
  if (!port_text.empty() && (std::from_chars(port_text.data(), port_text.data() + port_text.size(), port).ptr !=
                                 port_text.data() + port_text.size() ||
                             port == 0))
    return bad();
  UdpAddress a;
  auto &v4 = reinterpret_cast<sockaddr_in &>(a.storage);
  auto &v6 = reinterpret_cast<sockaddr_in6 &>(a.storage);
  if (inet_pton(AF_INET, host.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
  } else if (inet_pton(AF_INET6, host.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
  } else {
    return bad();
  }
  return a;
}

std::string to_string(const UdpAddress &a) {
  char text[INET6_ADDRSTRLEN] = {};
  if (a.storage.ss_family == AF_INET) {
    const auto &v4 = reinterpret_cast<const sockaddr_in &>(a.storage);
    inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
    return fmt::format("{}:{}", text, ntohs(v4.sin_port));
  }
  const auto &v6 = reinterpret_cast<const sockaddr_in6 &>(a.storage);
  inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
  return fmt::format("[{}]:{}", text, ntohs(v6.sin6_port));
}

} // namespace abyme::net
