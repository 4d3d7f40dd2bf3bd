#pragma once
#include "net/ports/device.hpp"

namespace abyme::net {

// A capture file as a port. Options: in (frames to send into the switch), out (where frames go), speed (recorded or
// fast), loop.
extern const PortKind kPcapPort;

} // namespace abyme::net
