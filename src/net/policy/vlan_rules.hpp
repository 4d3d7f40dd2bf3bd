#pragma once
#include "net/frame/frame.hpp"
#include "net/policy/reason.hpp"
#include <optional>
#include <vector>

namespace abyme::net {

// How a port group's ports stand to VLANs. ESXi's three ways of tagging: external (VLAN 0), virtual switch (1 to 4094),
// guest (4095).
enum class VlanMode : u8 {
  None,     // VLAN 0: untagged frames only
  External, // VLAN 0 with external tagging: whatever tags there are pass untouched, and mean nothing here
  Access,   // the switch tags; the guest sees none
  Trunk,    // the guest tags
};

// Private VLANs: secondary VLANs of a primary one, which share its addresses but not its ports.
struct PrivateVlan {
  VlanId primary = {};
  std::vector<VlanId> isolated = {}, community = {};
  bool operator==(const PrivateVlan &) const = default;
};

// What a port group says.
struct VlanSettings {
  VlanMode mode = VlanMode::None;
  VlanId access = {};                // Access: the VLAN; of a private VLAN, the primary makes a promiscuous port
  VlanSet trunk = {};                // Trunk: allowed VLANs, 0 for untagged frames
  std::optional<VlanId> native = {}; // Trunk: the VLAN of untagged frames
  bool operator==(const VlanSettings &) const = default;
};

// What a port's frames are held against: the settings and the private VLANs, worked out. Everything about private VLANs
// is in `sees`: a frame carries the VLAN of its sender's side, and an isolated port sees only its primary.
struct VlanRules {
  VlanMode mode = VlanMode::None;
  VlanId untagged = {}; // the VLAN that an untagged frame gets
  bool takes_untagged = true;
  VlanId leaves_untagged = {}; // Trunk: the VLAN whose frames leave without a tag
  VlanSet sends = {}, sees = {};
};

[[nodiscard]] VlanRules make_vlan_rules(const VlanSettings &settings, const std::vector<PrivateVlan> &private_vlans);

// The VLAN under which addresses are learned: itself, or the primary of a private VLAN.
class LearningDomains {
public:
  LearningDomains() : LearningDomains(std::vector<PrivateVlan>{}) {}
  explicit LearningDomains(const std::vector<PrivateVlan> &private_vlans);
  [[nodiscard]] VlanId of(VlanId vlan) const { return domain_[vlan.value]; }

private:
  std::vector<VlanId> domain_;
};

// Finds the frame's VLAN and writes it to the frame, or says why it may not enter. The frame has at least an Ethernet
// header.
[[nodiscard]] DropReason classify_tagged(const VlanRules &rules, Frame &frame);
[[nodiscard]] inline DropReason classify(const VlanRules &rules, Frame &frame) {
  if (!is_tpid(load_be16(frame.data + 12)) && rules.takes_untagged) {
    frame.vlan = rules.untagged;
    return DropReason::None;
  }
  return classify_tagged(rules, frame);
}

// How the frame leaves through a port, or why it may not.
struct Departure {
  DropReason reason = DropReason::None;
  TagEdit edit = TagEdit::Keep;
};
[[nodiscard]] inline Departure depart(const VlanRules &rules, const Frame &frame) {
  if (!rules.sees.has(frame.vlan)) return {.reason = DropReason::VlanNotVisible};
  const bool tagged = rules.mode == VlanMode::Trunk && frame.vlan != rules.leaves_untagged;
  if (tagged) return {.edit = frame.tag_bytes ? TagEdit::Keep : TagEdit::Push};
  // What leaves untagged must not begin with another tag, which the next switch would believe.
  if (frame.inner_tag && rules.mode != VlanMode::External) return {.reason = DropReason::TagWouldHop};
  return {.edit = frame.tag_bytes ? TagEdit::Pop : TagEdit::Keep};
}

} // namespace abyme::net
