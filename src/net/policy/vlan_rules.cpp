#include "net/policy/vlan_rules.hpp"
#include <algorithm>

namespace abyme::net {
namespace {

// What a port in `vlan` sees of a private VLAN; nothing when it is none of its VLANs.
void see_private(VlanSet &sees, VlanId vlan, const PrivateVlan &pvlan) {
  const auto has = [&](const std::vector<VlanId> &list) { return std::ranges::find(list, vlan) != list.end(); };
  if (vlan == pvlan.primary) { // promiscuous port
    for (VlanId v : pvlan.isolated) sees.add(v);
    for (VlanId v : pvlan.community) sees.add(v);
  } else if (has(pvlan.isolated)) {
    sees = {};
    sees.add(pvlan.primary);
  } else if (has(pvlan.community)) {
    sees.add(pvlan.primary);
  }
}

VlanRules trunk_rules(const VlanSettings &settings) {
  VlanRules rules{.mode = VlanMode::Trunk, .sends = settings.trunk};
  if (settings.native) { // untagged frames have a VLAN, so there are none of VLAN 0
    rules.sends.add(*settings.native);
    rules.sends.remove(kNoVlan);
  }
  rules.untagged = rules.leaves_untagged = settings.native.value_or(kNoVlan);
  rules.takes_untagged = settings.native || settings.trunk.has(kNoVlan);
  rules.sees = rules.sends;
  return rules;
}

} // namespace

VlanRules make_vlan_rules(const VlanSettings &settings, const std::vector<PrivateVlan> &private_vlans) {
  if (settings.mode == VlanMode::Trunk) return trunk_rules(settings);
  VlanRules rules{.mode = settings.mode};
  rules.untagged = settings.mode == VlanMode::Access ? settings.access : kNoVlan;
  rules.takes_untagged = true;
  rules.sends.add(rules.untagged);
  rules.sees.add(rules.untagged);
  if (settings.mode == VlanMode::Access)
    for (const PrivateVlan &p : private_vlans) see_private(rules.sees, settings.access, p);
  return rules;
}

LearningDomains::LearningDomains(const std::vector<PrivateVlan> &private_vlans) : domain_(kVlanCount) {
  for (u16 v = 0; v < kVlanCount; v++) domain_[v] = VlanId{v};
  for (const PrivateVlan &p : private_vlans) {
    for (VlanId v : p.isolated) domain_[v.value] = p.primary;
    for (VlanId v : p.community) domain_[v.value] = p.primary;
  }
}

DropReason classify_tagged(const VlanRules &rules, Frame &frame) {
  if (!is_tpid(load_be16(frame.data + 12))) return DropReason::UntaggedNotAllowed;
  if (frame.length < kEthernetHeader + kTagBytes) return DropReason::Runt;
  if (rules.mode == VlanMode::External) {
    frame.vlan = kNoVlan;
    frame.inner_tag = true; // its outermost tag is opaque here
    return DropReason::None;
  }
  const u16 tci = load_be16(frame.data + 14);
  const u16 vlan = tci & 0xfff;
  const bool inner = is_tpid(load_be16(frame.data + 16));
  if (vlan == kReservedVlan) return DropReason::BadTag;
  if (vlan != 0 && rules.mode != VlanMode::Trunk) return DropReason::TagNotAllowed;
  if (vlan == 0) { // priority-tagged: as untagged (802.1Q §6.9.1), with the tag's priority kept for those who see tags
    if (!rules.takes_untagged) return DropReason::UntaggedNotAllowed;
    if (inner) return DropReason::DoubleTag;
    store_be16(frame.data + 14, static_cast<u16>((tci & 0xf000) | rules.untagged.value));
    frame.vlan = rules.untagged;
  } else {
    frame.vlan = VlanId{vlan};
    if (!rules.sends.has(frame.vlan)) return DropReason::VlanNotAllowed;
  }
  frame.tag_bytes = kTagBytes;
  frame.inner_tag = inner;
  return DropReason::None;
}

} // namespace abyme::net
