#pragma once
#include "base/int.hpp"
#include "base/result.hpp"
#include <netinet/in.h>
#include <string>
#include <sys/socket.h>

namespace abyme::net {

// An IPv4 or IPv6 address with a UDP port.
struct UdpAddress {
  sockaddr_storage storage{};
  [[nodiscard]] const sockaddr *raw() const { return reinterpret_cast<const sockaddr *>(&storage); }
  [[nodiscard]] socklen_t size() const {
    return storage.ss_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  }
  [[nodiscard]] bool same_host(const UdpAddress &other) const;
  [[nodiscard]] bool is_multicast() const;
};

// "192.0.2.1", "192.0.2.1:4789", "2001:db8::1" or "[2001:db8::1]:4789".
[[nodiscard]] Result<UdpAddress> parse_udp_address(const std::string &text, u16 port_otherwise);
[[nodiscard]] std::string to_string(const UdpAddress &address);

} // namespace abyme::net
