#pragma once
#include "net/ports/device.hpp"

namespace abyme::net {

// A Linux tap interface, made when it is not there. Options: name, bring_up (default true), netns (a network
// namespace's path or its name under /run/netns).
extern const PortKind kTapPort;

} // namespace abyme::net
