#pragma once
#include "net/fdb/fdb.hpp"
#include "net/frame/frame.hpp"
#include <optional>
#include <unordered_map>
#include <vector>

namespace abyme::net {

// IGMPv2/v3 and MLDv1/v2 snooping (RFC 4541): which ports asked for a multicast address, and behind which ports
// multicast routers are. Groups are kept by MAC address, as the frames that they are for are forwarded.
class Snooping {
public:
  using Ports = std::vector<PortIndex>;
  static constexpr u32 kGroupSeconds = 260;  // RFC 3376 §8.4, the group membership interval
  static constexpr u32 kRouterSeconds = 255; // RFC 3376 §8.5, the other querier present interval
  static constexpr u32 kLeaveSeconds =
      2; // after a leave: time for another member behind the port to answer the last-member queries
  static constexpr std::size_t kMaxGroups = 4096;

  enum class Kind : u8 {
    Data,   // look up its group
    Report, // only to routers (RFC 4541 §2.1.1)
    Query,  // to everybody
  };
  // Takes in what a multicast frame says of groups. The frame is classified; `domain` is its learning domain.
  Kind inspect(PortIndex from, VlanId domain, const Frame &frame, u32 second);

  // The ports to which a multicast frame goes, routers' included; nothing when it goes to everybody: link-local groups
  // (RFC 4541 §2.1.2), non-IP, and groups that nobody joined while no router was heard of.
  [[nodiscard]] std::optional<Ports> members(VlanId domain, const Frame &frame) const;
  // The ports to which a report goes: routers'; nothing, so everybody, while none was heard of.
  [[nodiscard]] std::optional<Ports> report_ports(VlanId domain) const;

  void age(u32 second);
  void forget(PortIndex port);
  void clear();
  [[nodiscard]] std::size_t groups() const { return groups_.size(); }

private:
  struct Member {
    PortIndex port;
    u32 until;
  };
  struct Payload {
    const u8 *ip;
    u32 length;
    bool v6;
  };
  template <class Which> void erase(Which which);
  static std::optional<Payload> ip_of(const Frame &frame);
  Kind inspect_igmp(PortIndex from, VlanId domain, std::span<const u8> igmp, u32 second);
  Kind inspect_mld(PortIndex from, VlanId domain, std::span<const u8> icmp, u32 second);
  void inspect_v3_report(PortIndex from, VlanId domain, std::span<const u8> records, u32 count, u32 address_bytes,
                         u32 second);
  void join(PortIndex port, VlanId domain, MacAddress group, u32 until);
  void leave(PortIndex port, VlanId domain, MacAddress group, u32 second);
  void router(PortIndex port, VlanId domain, u32 second);

  std::unordered_map<u64, std::vector<Member>> groups_;  // by FdbKey
  std::unordered_map<u16, std::vector<Member>> routers_; // by domain
};

} // namespace abyme::net
