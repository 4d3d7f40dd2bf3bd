#pragma once
#include "net/ports/device.hpp"

namespace abyme::net {

// A tunnel to other switches (RFC 7348). Options: vni, local, port, remotes (whom frames for everybody
// go to), group and interface (multicast instead), learn_remotes, mtu_check.
extern const PortKind kVxlanPort;

} // namespace abyme::net
