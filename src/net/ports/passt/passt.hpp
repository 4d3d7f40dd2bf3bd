#pragma once
#include "net/ports/device.hpp"

namespace abyme::net {

// NAT through passt, without privileges. Options: path (passt's socket; without it, passt is started).
extern const PortKind kPasstPort;

} // namespace abyme::net
