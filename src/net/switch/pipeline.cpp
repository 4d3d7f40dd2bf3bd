// The way of a burst through the switch: admit (classify and policy), learn, look up, deliver, account.
#include "net/frame/offload.hpp"
#include "net/switch/switch.hpp"
#include <algorithm>

namespace abyme::net {
namespace {

constexpr MacAddress kBridgeGroup{0x0180'c200'0000};    // 802.1D §7.12.3
constexpr MacAddress kPerVlanBridges{0x0100'0ccc'cccd}; // per-VLAN spanning tree

bool is_bpdu(MacAddress destination) { return destination == kBridgeGroup || destination == kPerVlanBridges; }

} // namespace

struct Switch::Burst {
  DropReason verdict[FrameBatch::kFrames];
  FdbKey source[FrameBatch::kFrames], destination[FrameBatch::kFrames];
  Fdb::Bucket source_bucket[FrameBatch::kFrames], destination_bucket[FrameBatch::kFrames];
};

DropReason Switch::admit(Port &port, Frame &frame) {
  if (frame.length < kEthernetHeader) return DropReason::Runt;
  if (frame.offload != Offload{} && !plausible(frame)) return DropReason::BadOffload;
  if (frame.oversize) return DropReason::TooLong;
  if (frame.offload.gso_type == kGsoNone && frame.length > settings_.mtu + kEthernetHeader + 2 * kTagBytes)
    return DropReason::TooLong;
  const MacAddress source = frame.source();
  if (source.is_group() || source.is_zero()) return DropReason::BadSource;
  if (const DropReason r = classify(port.rules.vlan, frame); r != DropReason::None) return r;
  if (!port.rules.uplink && !may_send_from(port.rules.security, port.adapter, source))
    return DropReason::ForgedTransmit;
  return DropReason::None;
}

DropReason Switch::admit_bpdu(PortIndex from, Port &port, const Frame &frame) {
  if (port.rules.bpdu == BpduAction::Pass || !is_bpdu(frame.destination())) return DropReason::None;
  if (port.rules.bpdu == BpduAction::Filter) return DropReason::BpduFilter;
  port.guard_tripped = true;
  reconsider(from);
  if (events_) events_->guard_tripped(from);
  return DropReason::BpduGuard;
}

void Switch::input(PortIndex from, std::span<Frame> frames) {
  for (; frames.size() > FrameBatch::kFrames; frames = frames.subspan(FrameBatch::kFrames))
    input_burst(from, frames.first(FrameBatch::kFrames));
  if (!frames.empty()) input_burst(from, frames);
}

// Without a configured address, the first one that its guest uses is the adapter's.
void Switch::adopt_address(PortIndex from, const Frame &frame) {
  if (frame.length < kEthernetHeader) return;
  const MacAddress first = frame.source();
  if (!first.is_group() && !first.is_zero()) set_adapter(from, {.initial = first, .effective = first});
}

void Switch::input_burst(PortIndex from, std::span<Frame> frames) {
  Port &port = at(from);
  Burst burst;
  second_ = second();
  u64 bytes = 0;
  if (port.adapter.initial.is_zero() && !port.rules.uplink) [[unlikely]]
    adopt_address(from, frames[0]);
  for (std::size_t i = 0; i < frames.size(); i++) {
    Frame &f = frames[i];
    bytes += f.length;
    if (port.guard_tripped) {
      burst.verdict[i] = DropReason::BpduGuard;
      continue;
    }
    burst.verdict[i] = admit(port, f);
    if (burst.verdict[i] != DropReason::None) continue;
    if (f.destination().is_group()) burst.verdict[i] = admit_bpdu(from, port, f);
    const VlanId domain = domains_.of(f.vlan);
    burst.source[i] = {domain, f.source()};
    burst.destination[i] = {domain, f.destination()};
    fdb_.prefetch(burst.source_bucket[i] = fdb_.bucket(burst.source[i]));
    fdb_.prefetch(burst.destination_bucket[i] = fdb_.bucket(burst.destination[i]));
  }
  port.counters.in_frames += frames.size();
  port.counters.in_bytes += bytes;
  for (std::size_t i = 0; i < frames.size(); i++) {
    if (burst.verdict[i] == DropReason::None) {
      const bool learned = !port.rules.learning.enabled ||
                           fdb_.fresh(burst.source_bucket[i], burst.source[i], from, second_) ||
                           learn(from, port, burst.source[i]);
      burst.verdict[i] = learned ? forward(from, port, frames[i], burst.destination[i], burst.destination_bucket[i])
                                 : DropReason::MacLimit;
    }
    if (burst.verdict[i] != DropReason::None) drop(from, burst.verdict[i], frames[i]);
    if (port.watched) observe({.port = from, .frame = &frames[i], .reason = burst.verdict[i]});
  }
  flush();
}

// False when the frame must be dropped for the limit.
bool Switch::learn(PortIndex from, Port &port, FdbKey key) {
  const MacAddress mac = key.mac();
  if (!port.rules.uplink && mac == port.adapter.effective) return true;
  const PortIndex owner = pins_.find(mac);
  if (owner != kNoPort && at(owner).rules.vlan.sees.has(key.domain())) {
    if (owner != from) port.counters.pinned_conflicts++;
    return true;
  }
  const PortIndex before = fdb_.find(key);
  switch (fdb_.learn(key, from, second_, port.rules.learning.limit)) {
  case Learned::PortLimit: return !port.rules.learning.drop_over_limit;
  case Learned::Moved:
    port.counters.moves_in++;
    if (flaps_.moved(key, second_) && events_) events_->flapping(key, before, from);
    return true;
  case Learned::Known:
  case Learned::Added: return true;
  }
  return true;
}

PortIndex Switch::locate(const Frame &frame, FdbKey key, Fdb::Bucket bucket) const {
  const PortIndex pinned = pins_.find(key.mac());
  if (pinned != kNoPort && at(pinned).rules.vlan.sees.has(frame.vlan)) return pinned;
  const PortIndex learned = fdb_.find(bucket, key);
  // A private VLAN's address that the sender must not reach is known nonetheless: it is dropped by name, not flooded.
  if (learned == kNoPort && pinned != kNoPort && at(pinned).rules.vlan.sends.has(frame.vlan)) return pinned;
  return learned;
}

DropReason Switch::forward(PortIndex from, Port &port, Frame &frame, FdbKey key, Fdb::Bucket bucket) {
  const MacAddress destination = key.mac();
  if (destination.is_group()) {
    (destination == kBroadcast ? port.counters.in_broadcast : port.counters.in_multicast)++;
    if (settings_.snooping && destination != kBroadcast) {
      const VlanId domain = key.domain();
      const Snooping::Kind kind = snooping_.inspect(from, domain, frame, second_);
      const auto group = kind == Snooping::Kind::Data     ? snooping_.members(domain, frame)
                         : kind == Snooping::Kind::Report ? snooping_.report_ports(domain)
                                                          : std::nullopt;
      if (group) {
        forward_to_group(from, frame, *group);
        return DropReason::None;
      }
    }
    return forward_to_all(from, port, frame, false);
  }
  const PortIndex to = locate(frame, key, bucket);
  if (to == kNoPort) return forward_to_all(from, port, frame, true);
  if (!listeners_.empty()) copy_to_listeners(from, to, frame);
  if (to == from) return DropReason::SamePort;
  deliver(to, frame);
  return DropReason::None;
}

bool Switch::within_storm_limit(Port &port) {
  if (!port.rules.storm_limit) return true;
  if (port.storm_second != second_) {
    port.storm_second = second_;
    port.storm_count = 0;
  }
  return ++port.storm_count <= port.rules.storm_limit;
}

DropReason Switch::forward_to_all(PortIndex from, Port &port, Frame &frame, bool unknown_unicast) {
  if (!within_storm_limit(port)) return DropReason::StormLimit;
  bool sent = false;
  for (const PortIndex to : members(frame.vlan)) {
    if (to == from) continue;
    const Port &p = at(to);
    if (unknown_unicast && !(p.rules.learning.enabled && p.rules.learning.flooding)) continue;
    deliver(to, frame);
    sent = true;
  }
  port.counters.flooded += sent;
  if (!unknown_unicast) return DropReason::None;
  if (!listeners_.empty()) copy_to_listeners(from, kNoPort, frame);
  return sent ? DropReason::None : DropReason::NoDestination;
}

void Switch::forward_to_group(PortIndex from, Frame &frame, const Snooping::Ports &members) {
  const auto gets = [&](PortIndex p) { return std::ranges::find(members, p) != members.end(); };
  for (const PortIndex to : members) {
    if (to == from || !at(to).rules.vlan.sees.has(frame.vlan)) continue;
    deliver(to, frame);
  }
  for (const PortIndex l : listeners_) {
    if (gets(l)) continue;
    const bool own_group =
        std::ranges::any_of(members, [&](PortIndex m) { return at(m).rules.group == at(l).rules.group; });
    copy_to_listener(from, l, frame, own_group);
  }
}

// Promiscuous guests get what goes elsewhere: `to` has its own copy, and where the frame is flooded, so have the ports
// that flood.
void Switch::copy_to_listeners(PortIndex from, PortIndex to, const Frame &frame) {
  for (const PortIndex l : listeners_) {
    const Port &p = at(l);
    if (l == to || (to == kNoPort && p.rules.learning.enabled && p.rules.learning.flooding)) continue;
    copy_to_listener(from, l, frame, to != kNoPort && at(to).rules.group == p.rules.group);
  }
}

void Switch::copy_to_listener(PortIndex from, PortIndex listener, const Frame &frame, bool to_its_group) {
  Port &p = at(listener);
  if (listener == from || !p.rules.vlan.sees.has(frame.vlan)) return;
  const bool own_group = to_its_group || at(from).rules.group == p.rules.group;
  if (p.rules.security.scope == SecurityPolicy::Scope::PortGroup && !own_group) return;
  p.counters.promiscuous++;
  deliver(listener, frame);
}

void Switch::refuse(PortIndex to, DropReason reason, const Frame &frame) {
  const Port &port = at(to);
  if (reason == DropReason::None)
    reason = !port.connected      ? DropReason::Disconnected
             : port.guard_tripped ? DropReason::BpduGuard
                                  : DropReason::MacChangeRejected;
  drop(to, reason, frame);
  if (port.watched) observe({.port = to, .entering = false, .frame = &frame, .reason = reason});
}

void Switch::deliver(PortIndex to, const Frame &frame) {
  Port &port = at(to);
  const bool plain = frame.vlan == port.plain_vlan && !frame.tag_bytes && !frame.inner_tag;
  const Departure departure = plain ? Departure{} : depart(port.rules.vlan, frame);
  if (departure.reason != DropReason::None || !port.receives) [[unlikely]]
    return refuse(to, departure.reason, frame);
  touched_[touched_count_] = to;
  touched_count_ += port.out.empty(); // without a branch: among many ports it could not be predicted
  port.out.push_back({.frame = &frame, .edit = departure.edit});
}

void Switch::flush() {
  for (const PortIndex to : std::span(touched_).first(touched_count_)) {
    Port &port = at(to);
    port.sink->transmit(port.out);
    u64 frames = 0, bytes = 0;
    for (const Egress &e : port.out) {
      if (e.outcome == DropReason::None) {
        frames++;
        bytes += wire_length(*e.frame, e.edit);
      } else {
        drop(to, e.outcome, *e.frame);
      }
      if (port.watched) observe({.port = to, .entering = false, .frame = e.frame, .edit = e.edit, .reason = e.outcome});
    }
    port.counters.out_frames += frames;
    port.counters.out_bytes += bytes;
    port.out.clear();
  }
  touched_count_ = 0;
}

} // namespace abyme::net
