#include "net/switch/snooping.hpp"
#include <algorithm>

namespace abyme::net {
namespace {

constexpr u16 kIpv4 = 0x0800, kIpv6 = 0x86dd;
constexpr u8 kIgmp = 2, kHopByHop = 0, kIcmp6 = 58;

MacAddress group_mac4(const u8 *address) {
  return {u64{0x0100'5e00'0000} | (load_be32(address) & 0x7f'ffff)};
} // RFC 1112 §6.4
MacAddress group_mac6(const u8 *address) { return {u64{0x3333'0000'0000} | load_be32(address + 12)}; } // RFC 2464 §7

// Groups that everybody gets whatever was reported: 224.0.0.0/24 and ff02::1 (RFC 4541 §2.1.2, §3).
bool for_everybody(MacAddress group) { return group.value >> 8 == 0x0100'5e00'00 || group.value == 0x3333'0000'0001; }

} // namespace

template <class Which> void Snooping::erase(Which which) {
  const auto from = [&](auto &map) {
    for (auto it = map.begin(); it != map.end();) {
      std::erase_if(it->second, which);
      it = it->second.empty() ? map.erase(it) : std::next(it);
    }
  };
  from(groups_);
  from(routers_);
}

std::optional<Snooping::Payload> Snooping::ip_of(const Frame &f) {
  u32 at = 12;
  while (at + 2 <= f.length && is_tpid(load_be16(f.data + at))) at += kTagBytes;
  if (at + 2 > f.length) return std::nullopt;
  const u16 type = load_be16(f.data + at);
  if (type != kIpv4 && type != kIpv6) return std::nullopt;
  return Payload{.ip = f.data + at + 2, .length = f.length - at - 2, .v6 = type == kIpv6};
}

Snooping::Kind Snooping::inspect(PortIndex from, VlanId domain, const Frame &frame, u32 second) {
  const auto p = ip_of(frame);
  if (!p) return Kind::Data;
  if (!p->v6) {
    if (p->length < 20 || p->ip[9] != kIgmp) return Kind::Data;
    const u32 header = (p->ip[0] & 15) * 4u, total = load_be16(p->ip + 2);
    if (header < 20 || total > p->length || total < header + 8) return Kind::Data;
    return inspect_igmp(from, domain, {p->ip + header, total - header}, second);
  }
  // MLD always has a router-alert option in a hop-by-hop header of eight bytes (RFC 3810 §5).
  if (p->length < 40 + 8 + 8 || p->ip[6] != kHopByHop || p->ip[40] != kIcmp6 || p->ip[41] != 0) return Kind::Data;
  const u32 payload = load_be16(p->ip + 4);
  if (payload < 16 || 40 + payload > p->length) return Kind::Data;
  return inspect_mld(from, domain, {p->ip + 48, payload - 8}, second);
}

Snooping::Kind Snooping::inspect_igmp(PortIndex from, VlanId domain, std::span<const u8> igmp, u32 second) {
  constexpr u8 kQuery = 0x11, kReport1 = 0x12, kReport2 = 0x16, kLeave = 0x17, kReport3 = 0x22;
  switch (igmp[0]) {
  case kQuery: router(from, domain, second); return Kind::Query;
  case kReport1:
  case kReport2: join(from, domain, group_mac4(&igmp[4]), second + kGroupSeconds); return Kind::Report;
  case kLeave: leave(from, domain, group_mac4(&igmp[4]), second); return Kind::Report;
  case kReport3: inspect_v3_report(from, domain, igmp.subspan(8), load_be16(&igmp[6]), 4, second); return Kind::Report;
  default: return Kind::Data;
  }
}

Snooping::Kind Snooping::inspect_mld(PortIndex from, VlanId domain, std::span<const u8> icmp, u32 second) {
  constexpr u8 kQuery = 130, kReport1 = 131, kDone = 132, kReport2 = 143;
  switch (icmp[0]) {
  case kQuery: router(from, domain, second); return Kind::Query;
  case kReport1:
    if (icmp.size() >= 24) join(from, domain, group_mac6(&icmp[8]), second + kGroupSeconds);
    return Kind::Report;
  case kDone:
    if (icmp.size() >= 24) leave(from, domain, group_mac6(&icmp[8]), second);
    return Kind::Report;
  case kReport2: inspect_v3_report(from, domain, icmp.subspan(8), load_be16(&icmp[6]), 16, second); return Kind::Report;
  default: return Kind::Data;
  }
}

// Group records of IGMPv3 (RFC 3376 §4.2.4) and MLDv2 (RFC 3810 §5.2.4), which differ only in the size of an address.
void Snooping::inspect_v3_report(PortIndex from, VlanId domain, std::span<const u8> records, u32 count,
                                 u32 address_bytes, u32 second) {
  constexpr u8 kModeIsInclude = 1, kChangeToInclude = 3, kBlockOld = 6;
  while (count--) {
    if (records.size() < 4 + address_bytes) return;
    const u8 type = records[0];
    const u32 sources = load_be16(&records[2]);
    const u64 length = 4 + address_bytes + u64{sources} * address_bytes + records[1] * 4u;
    const MacAddress group = address_bytes == 4 ? group_mac4(&records[4]) : group_mac6(&records[4]);
    const bool includes = type == kModeIsInclude || type == kChangeToInclude;
    if (includes && sources == 0)
      leave(from, domain, group, second); // including no source is leaving
    else if (type != kBlockOld)
      join(from, domain, group, second + kGroupSeconds);
    if (records.size() < length) return;
    records = records.subspan(length);
  }
}

void Snooping::join(PortIndex port, VlanId domain, MacAddress group, u32 until) {
  if (for_everybody(group)) return;
  const u64 key = FdbKey(domain, group).value;
  if (groups_.size() >= kMaxGroups && !groups_.contains(key)) return;
  auto &members = groups_[key];
  const auto found = std::ranges::find(members, port, &Member::port);
  if (found == members.end())
    members.push_back({port, until});
  else
    found->until = until;
}

void Snooping::leave(PortIndex port, VlanId domain, MacAddress group, u32 second) {
  const auto found = groups_.find(FdbKey(domain, group).value);
  if (found == groups_.end()) return;
  for (Member &m : found->second)
    if (m.port == port) m.until = std::min(m.until, second + kLeaveSeconds);
}

void Snooping::router(PortIndex port, VlanId domain, u32 second) {
  auto &list = routers_[domain.value];
  const auto found = std::ranges::find(list, port, &Member::port);
  if (found == list.end())
    list.push_back({port, second + kRouterSeconds});
  else
    found->until = second + kRouterSeconds;
}

std::optional<Snooping::Ports> Snooping::report_ports(VlanId domain) const {
  const auto found = routers_.find(domain.value);
  if (found == routers_.end() || found->second.empty()) return std::nullopt;
  Ports out;
  for (const Member &m : found->second) out.push_back(m.port);
  return out;
}

std::optional<Snooping::Ports> Snooping::members(VlanId domain, const Frame &frame) const {
  const MacAddress group = frame.destination();
  const bool ip = group.value >> 24 == 0x01005e || group.value >> 32 == 0x3333;
  if (!ip || for_everybody(group)) return std::nullopt;
  auto out = report_ports(domain);
  const auto found = groups_.find(FdbKey(domain, group).value);
  if (found == groups_.end()) return out;
  if (!out) out.emplace();
  for (const Member &m : found->second)
    if (std::ranges::find(*out, m.port) == out->end()) out->push_back(m.port);
  return out;
}

void Snooping::age(u32 second) {
  erase([&](const Member &m) { return m.until <= second; });
}

void Snooping::forget(PortIndex port) {
  erase([&](const Member &m) { return m.port == port; });
}

void Snooping::clear() {
  groups_.clear();
  routers_.clear();
}

} // namespace abyme::net
