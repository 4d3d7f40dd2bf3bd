#pragma once
#include "net/ports/device.hpp"

namespace abyme::net {

// An interface of the host, through an AF_PACKET socket: an L1 guest's own switch reaches its NIC so. Options:
// interface, promiscuous (default true).
extern const PortKind kPacketPort;

} // namespace abyme::net
