#include "net/policy/reason.hpp"

namespace abyme::net {
namespace {

constexpr std::array<ReasonRow, kReasonCount> kTable = {{
    {DropReason::None, "delivered", true, "", ""},
    {DropReason::LinkDown, "link-down", true, "the port's link is set down, or a BPDU guard shut it",
     "link: {up: true}"},
    {DropReason::Runt, "runt", true, "shorter than an Ethernet header and its tags", ""},
    {DropReason::TooLong, "too-long", true, "longer than the switch's MTU, headers apart", "mtu of the switch"},
    {DropReason::BadOffload, "bad-offload", true,
     "its virtio-net header asks for a checksum or a segmentation that its bytes do not bear", ""},
    {DropReason::BadSource, "bad-source", true, "its source address is zero or a group address", ""},
    {DropReason::BadTag, "bad-tag", true, "its VLAN tag says 4095, which is reserved", ""},
    {DropReason::TagNotAllowed, "tag-not-allowed", true,
     "it is tagged, and the port group has one VLAN (or none without external tagging): its guests send untagged "
     "frames",
     "vlan: 4095 or a trunk for guest tagging; external_tagging: true with vlan: 0"},
    {DropReason::UntaggedNotAllowed, "untagged-not-allowed", true,
     "it is untagged, and the trunk has neither a native VLAN nor VLAN 0 in its range",
     "native: VLAN, or 0 in the trunk's range"},
    {DropReason::VlanNotAllowed, "vlan-not-allowed", true, "its VLAN is outside the trunk's range",
     "trunk: a range with this VLAN"},
    {DropReason::DoubleTag, "double-tag", true, "a priority tag (VLAN 0) hides a second tag", ""},
    {DropReason::ForgedTransmit, "forged-transmit", true,
     "its source is not the adapter's effective MAC address, and forged transmits are rejected",
     "policy: {forged_transmits: accept}"},
    {DropReason::BpduFilter, "bpdu-filter", true, "it is a bridge protocol data unit, and the port group filters them",
     "bpdu: pass"},
    {DropReason::BpduGuard, "bpdu-guard", true, "it is a bridge protocol data unit, and the guard shut the port for it",
     "bpdu: pass, then link: {up: true}"},
    {DropReason::StormLimit, "storm-limit", true, "the port sent more frames for everyone in this second than it may",
     "storm_limit of the port or its group"},
    {DropReason::MacLimit, "mac-limit", true,
     "its source is new, the port's table of addresses is full and the limit policy is drop",
     "mac_learning: {limit: more} or {limit_policy: allow}"},
    {DropReason::NoDestination, "no-destination", true,
     "nobody has the address, and no port that sees the VLAN learns and floods",
     "mac_learning: {enabled: true, flooding: true} where the address lives"},
    {DropReason::SamePort, "same-port", true, "its destination lives at the port that it came from", ""},
    {DropReason::LinkLoss, "link-loss", true, "the link's set loss", "link: {loss: 0}"},
    {DropReason::LinkQueue, "link-queue", true, "more waits for the link's set rate or delay than its queue holds",
     "link: {queue: more}"},
    {DropReason::VlanNotVisible, "vlan-not-visible", false,
     "the port that has the destination address does not see the frame's VLAN",
     "vlan or trunk of the destination's port group; private_vlans"},
    {DropReason::TagWouldHop, "tag-would-hop", false, "without its outer tag another tag would decide its VLAN",
     "vlan: 4095 or a trunk at the destination"},
    {DropReason::MacChangeRejected, "mac-change-rejected", false,
     "the adapter's effective MAC address is not its initial one, and MAC address changes are rejected",
     "policy: {mac_changes: accept}"},
    {DropReason::Disconnected, "disconnected", false, "no guest (or peer) is connected and ready", ""},
    {DropReason::QueueFull, "queue-full", false, "the receiver has no free buffers", ""},
    {DropReason::BufferTooSmall, "buffer-too-small", false, "the receiver's buffers cannot hold the frame", ""},
    {DropReason::MtuExceeded, "mtu-exceeded", false, "longer than the port's MTU", "mtu of the port"},
    {DropReason::DeviceError, "device-error", false, "the port's device or peer refused the frame", ""},
}};

constexpr bool in_order() {
  for (unsigned i = 0; i < kReasonCount; i++)
    if (kTable[i].reason != static_cast<DropReason>(i)) return false;
  return true;
}
static_assert(in_order());

} // namespace

const std::array<ReasonRow, kReasonCount> &reason_table() { return kTable; }
const ReasonRow &row(DropReason reason) { return kTable[static_cast<unsigned>(reason)]; }

} // namespace abyme::net
