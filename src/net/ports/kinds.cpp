#include "net/ports/device.hpp"
#include "net/ports/packet/packet.hpp"
#include "net/ports/passt/passt.hpp"
#include "net/ports/pcap/pcap.hpp"
#include "net/ports/tap/tap.hpp"
#include "net/ports/vhost_user/vhost_user.hpp"
#include "net/ports/vxlan/vxlan.hpp"
#include <array>

namespace abyme::net {

std::span<const PortKind> port_kinds() {
  static const std::array kKinds = {kVhostUserPort, kTapPort, kPacketPort, kVxlanPort, kPcapPort, kPasstPort};
  return kKinds;
}

Result<const PortKind *> find_kind(std::string_view name) {
  std::string known;
  for (const PortKind &k : port_kinds()) {
    if (k.name == name) return &k;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", k.name);
  }
  return fail("is '{}'; the kinds are: {}", name, known);
}

} // namespace abyme::net
