#include "net/switch/switch.hpp"
#include <algorithm>

namespace abyme::net {

Switch::Switch(const SwitchSettings &settings, const Clock &clock, u64 secret, SwitchEvents *events)
    : settings_(settings), clock_(clock), events_(events), fdb_(settings.table_size, secret),
      domains_(settings.private_vlans), members_(kVlanCount) {
  second_ = second();
}

Switch::~Switch() = default;

PortIndex Switch::attach(const PortRules &rules, MacAddress initial, PortSink &sink) {
  const auto free = std::ranges::find_if(ports_, [](const auto &p) { return !p; });
  if (free == ports_.end() && ports_.size() == kMaxPorts) return kNoPort;
  const PortIndex index{static_cast<u16>(free - ports_.begin())};
  auto port = std::make_unique<Port>();
  port->rules = rules;
  port->adapter = {.initial = initial, .effective = initial};
  port->sink = &sink;
  port->out.reserve(FrameBatch::kFrames);
  if (free == ports_.end())
    ports_.push_back(std::move(port));
  else
    *free = std::move(port);
  touched_.resize(ports_.size() + 1);
  reconsider(index);
  return index;
}

void Switch::detach(PortIndex port) {
  fdb_.forget(port);
  pins_.unpin(port);
  snooping_.forget(port);
  std::erase(listeners_, port);
  members_known_ = {};
  ports_[to_index(port)].reset();
}

void Switch::set_rules(PortIndex port, const PortRules &rules) {
  Port &p = at(port);
  const bool forgets = !rules.learning.enabled || !(rules.vlan.sends == p.rules.vlan.sends);
  p.rules = rules;
  p.told = {};
  if (forgets) fdb_.forget(port);
  reconsider(port);
}

void Switch::set_settings(const SwitchSettings &settings) {
  settings_ = settings;
  domains_ = LearningDomains(settings.private_vlans);
  if (!settings.snooping) snooping_.clear();
}

void Switch::set_connected(PortIndex port, bool connected) {
  Port &p = at(port);
  if (p.connected == connected) return;
  p.connected = connected;
  if (!connected) {
    fdb_.forget(port);
    snooping_.forget(port);
    p.adapter.promiscuous = false; // a guest that comes back asks again
    p.adapter.effective = p.adapter.initial;
  }
  reconsider(port);
  if (connected && !p.rules.uplink && !p.adapter.effective.is_zero()) announce(port, p.adapter.effective);
}

void Switch::set_adapter(PortIndex port, const Adapter &adapter) {
  at(port).adapter = adapter;
  reconsider(port);
}

void Switch::clear_guard(PortIndex port) {
  at(port).guard_tripped = false;
  reconsider(port);
}

void Switch::reconsider(PortIndex port) {
  Port &p = at(port);
  const bool may = p.rules.uplink || may_receive(p.rules.security, p.adapter);
  const VlanRules &vlan = p.rules.vlan;
  const VlanId untagged = vlan.mode == VlanMode::Trunk ? vlan.leaves_untagged : vlan.untagged;
  p.plain_vlan = vlan.sees.has(untagged) ? untagged : VlanId{kReservedVlan};
  p.receives = p.connected && !p.guard_tripped && may;
  p.listens = p.receives && p.rules.security.promiscuous && p.adapter.promiscuous;
  pins_.unpin(port);
  if (p.connected && !p.rules.uplink) pin(port);
  std::erase(listeners_, port);
  if (p.listens) listeners_.push_back(port);
  members_known_ = {};
}

// A guest that changed its address against the policy keeps its initial one pinned: frames for it are dropped there, by
// name.
void Switch::pin(PortIndex port) {
  const Port &p = at(port);
  const MacAddress mac = p.rules.security.mac_changes ? p.adapter.effective : p.adapter.initial;
  if (mac.is_zero() || mac.is_group()) return;
  const PortIndex owner = pins_.pin(mac, port);
  if (owner != kNoPort && events_) events_->duplicate_address(mac, owner, port);
}

void Switch::watch(PortIndex port, bool on) { at(port).watched = on; }

const std::vector<PortIndex> &Switch::members(VlanId vlan) {
  auto &list = members_[vlan.value];
  if (members_known_.has(vlan)) return list;
  list.clear();
  for (u16 i = 0; i < ports_.size(); i++)
    if (ports_[i] && ports_[i]->connected && ports_[i]->rules.vlan.sees.has(vlan)) list.push_back(PortIndex{i});
  members_known_.add(vlan);
  return list;
}

void Switch::tick() {
  second_ = second();
  if (settings_.ageing_seconds && second_ > *settings_.ageing_seconds) fdb_.age(second_ - *settings_.ageing_seconds);
  snooping_.age(second_);
}

void Switch::announce(PortIndex port, MacAddress mac) {
  // RFC 903: "request reverse", in which only the source addresses matter to a switch.
  static constexpr u8 kBody[] = {0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3};
  u8 bytes[64] = {};
  kBroadcast.store(bytes);
  mac.store(bytes + 6);
  std::memcpy(bytes + 12, kBody, sizeof kBody);
  mac.store(bytes + 22);
  mac.store(bytes + 32);
  const PortRules &rules = at(port).rules;
  if (!rules.vlan.takes_untagged)
    return; // a trunk without a native VLAN: its guest alone knows where its address lives
  Frame frame{.data = bytes, .length = 60};
  input(port, {&frame, 1});
}

void Switch::account_drop(PortIndex port, DropReason reason, const Frame &frame) { drop(port, reason, frame); }

void Switch::drop(PortIndex port, DropReason reason, const Frame &frame) {
  constexpr u8 kTold = 3;
  Port &p = at(port);
  const auto i = static_cast<unsigned>(reason);
  p.counters.drops[i]++;
  if (p.told[i] >= kTold || !events_) return;
  p.told[i]++;
  events_->dropped(port, reason, frame);
}

void Switch::observe(const FrameEvent &event) {
  if (observer_) observer_->observe(event);
}

} // namespace abyme::net
