#pragma once
#include "base/int.hpp"

// Feature bits of a network device (virtio 1.2 §5.1.3, §6) and of vhost-user; the kernel's headers for them are C only.
namespace abyme::net::feature {

constexpr u64 bit(unsigned n) { return u64{1} << n; }

constexpr u64 kChecksum = bit(0), kGuestChecksum = bit(1), kMtu = bit(3), kGuestTso4 = bit(7), kGuestTso6 = bit(8);
constexpr u64 kHostTso4 = bit(11), kHostTso6 = bit(12), kMergeable = bit(15), kMultiqueue = bit(22);
constexpr u64 kAnyLayout = bit(27), kIndirect = bit(28), kEventIndex = bit(29), kVersion1 = bit(32), kPacked = bit(34);
constexpr u64 kProtocolFeatures = bit(30); // VHOST_USER_F_PROTOCOL_FEATURES

namespace protocol { // VHOST_USER_PROTOCOL_F_*
constexpr u64 kMultiqueue = bit(0), kRarp = bit(2), kReplyAck = bit(3), kNetMtu = bit(4), kResetDevice = bit(13);
constexpr u64 kMemorySlots = bit(15), kStatus = bit(16);
} // namespace protocol

} // namespace abyme::net::feature
