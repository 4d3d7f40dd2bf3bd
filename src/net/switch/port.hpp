#pragma once
#include "net/fdb/fdb.hpp"
#include "net/policy/reason.hpp"
#include "net/policy/security.hpp"
#include "net/policy/vlan_rules.hpp"
#include <array>
#include <string>
#include <vector>

namespace abyme::net {

// A frame on its way out of one port. The sink leaves `outcome` alone when it took the frame and otherwise says why
// not.
struct Egress {
  const Frame *frame = nullptr;
  TagEdit edit = TagEdit::Keep;
  DropReason outcome = DropReason::None;
};

// Where the switch puts a port's frames.
class PortSink {
public:
  virtual ~PortSink() = default;
  // All of a burst's frames for this port. Their bytes are valid only during the call.
  virtual void transmit(std::span<Egress> frames) = 0;
};

enum class BpduAction : u8 { Pass, Filter, Guard };

struct LearningRules {
  bool enabled = false;
  bool flooding = true; // gets frames for unknown addresses
  bool drop_over_limit = false;
  u32 limit = 4096;
  bool operator==(const LearningRules &) const = default;
};

// What a port's frames are held against, worked out from the switch's, the group's and its own settings.
struct PortRules {
  u32 group = 0; // ports with the same number are of one port group
  VlanRules vlan = {};
  SecurityPolicy security = {};
  LearningRules learning = {};
  BpduAction bpdu = BpduAction::Pass;
  u32 storm_limit = 0; // frames for everyone a second; 0: any number
  bool uplink = false; // leads to a network, not to an adapter: no address of its own, so no security policy
};

struct PortCounters {
  u64 out_frames = 0, out_bytes = 0; // first: they share a cache line with what delivery reads
  u64 in_frames = 0, in_bytes = 0;   // in: from the guest into the switch
  u64 in_broadcast = 0, in_multicast = 0;
  u64 flooded = 0;          // of in_frames: went to more than the port that has the address
  u64 promiscuous = 0;      // of out_frames: copies that the guest asked for
  u64 moves_in = 0;         // learned addresses that came here from another port
  u64 pinned_conflicts = 0; // frames from an address that another port's adapter has
  std::array<u64, kReasonCount> drops{};
};

} // namespace abyme::net
