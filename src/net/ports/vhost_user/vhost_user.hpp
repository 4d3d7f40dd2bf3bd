#pragma once
#include "net/ports/device.hpp"

namespace abyme::net {

// A virtio-net device for another process's guest (vhost-user). Options: path, mode (server or client), queues (pairs,
// 1 to 16).
extern const PortKind kVhostUserPort;

} // namespace abyme::net
