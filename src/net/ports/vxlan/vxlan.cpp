#include "net/ports/vxlan/vxlan.hpp"
#include "net/fdb/fdb.hpp"
#include "net/ports/finish.hpp"
#include "net/ports/options.hpp"
#include "net/ports/vxlan/address.hpp"
#include <algorithm>
#include <cerrno>
#include <net/if.h>
#include <random>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

namespace abyme::net {
namespace {

constexpr u16 kPort = 4789; // RFC 7348 §8
constexpr u32 kHeader = 8;
constexpr u32 kOverhead4 = 20 + 8 + kHeader + kEthernetHeader, kOverhead6 = 40 + 8 + kHeader + kEthernetHeader;
constexpr u32 kRemoteTable = 65536, kRemoteSeconds = 300;
constexpr std::size_t kMaxRemotes = 256; // of learned ones: a forger of addresses gets no more memory

struct Settings {
  u32 vni = 0;
  UdpAddress local;
  std::vector<UdpAddress> remotes; // whom frames for everybody go to
  std::optional<UdpAddress> group; // or this multicast group
  std::string interface;           // of the group
  bool learn_remotes = false;
};

class VxlanPort final : public PortDevice {
public:
  VxlanPort(const PortContext &context, Fd fd, Settings settings, std::optional<u32> mtu)
      : context_(context), fd_(std::move(fd)), settings_(std::move(settings)), remotes_(settings_.remotes), mtu_(mtu),
        places_(kRemoteTable, std::random_device{}()) {
    context_.loop.watch(fd_.get(), EPOLLIN, [this](u32) { receive(); });
    context_.host.connected(true);
    tick();
  }
  ~VxlanPort() override {
    context_.loop.cancel(timer_);
    context_.loop.unwatch(fd_.get());
  }

  void transmit(std::span<Egress> frames) override {
    for (Egress &e : frames)
      send_finished(e, {}, scratch_, [&](const Frame &f, TagEdit edit) { return send(f, edit); });
  }
  std::optional<u32> mtu() const override { return mtu_; }
  nlohmann::json describe() const override {
    nlohmann::json remotes = nlohmann::json::array();
    for (const auto &r : remotes_) remotes.push_back(to_string(r));
    nlohmann::json out = {{"vni", settings_.vni},
                          {"local", to_string(settings_.local)},
                          {"remotes", remotes},
                          {"remote_addresses", places_.learned()},
                          {"strangers", strangers_}};
    if (settings_.group) out["group"] = to_string(*settings_.group);
    if (mtu_) out["mtu"] = *mtu_;
    return out;
  }

private:
  [[nodiscard]] u32 second() const { return static_cast<u32>(context_.loop.clock().now() / 1'000'000'000) + 1; }
  void tick() {
    if (second() > kRemoteSeconds) places_.age(second() - kRemoteSeconds);
    timer_ = context_.loop.at(context_.loop.clock().now() + 1'000'000'000, [this] { tick(); });
  }

  DropReason send(const Frame &f, TagEdit edit) {
    u8 header[kHeader] = {0x08}; // the VNI is valid (RFC 7348 §5)
    store_be32(header + 4, settings_.vni << 8);
    WirePieces pieces;
    wire_pieces(f, edit, pieces);
    iovec io[4] = {{header, kHeader}, {}, {}, {}};
    for (int i = 0; i < 3; i++) io[i + 1] = {const_cast<u8 *>(pieces.piece[i].data()), pieces.piece[i].size()};
    const bool tagged = edit == TagEdit::Push || (edit == TagEdit::Keep && f.tag_bytes);
    const PortIndex known =
        f.destination().is_group() ? kNoPort : places_.find({tagged ? f.vlan : kNoVlan, f.destination()});
    if (known != kNoPort) return send_to(remotes_[to_index(known)], io);
    if (settings_.group) return send_to(*settings_.group, io);
    DropReason outcome = remotes_.empty() ? DropReason::Disconnected : DropReason::None;
    for (const UdpAddress &r : remotes_)
      if (const DropReason one = send_to(r, io); one != DropReason::None) outcome = one;
    return outcome;
  }
  DropReason send_to(const UdpAddress &to, iovec (&io)[4]) {
    msghdr m{};
    m.msg_name = const_cast<sockaddr *>(to.raw());
    m.msg_namelen = to.size();
    m.msg_iov = io;
    m.msg_iovlen = 4;
    if (sendmsg(fd_.get(), &m, MSG_DONTWAIT | MSG_NOSIGNAL) > 0) return DropReason::None;
    if (errno == EAGAIN || errno == ENOBUFS) return DropReason::QueueFull;
    return errno == EMSGSIZE ? DropReason::MtuExceeded : DropReason::DeviceError;
  }

  // Its number, when its frames are welcome.
  std::optional<PortIndex> remote_of(const UdpAddress &from) {
    const auto found = std::ranges::find_if(remotes_, [&](const UdpAddress &r) { return r.same_host(from); });
    if (found == remotes_.end() && (!(settings_.group || settings_.learn_remotes) || remotes_.size() >= kMaxRemotes))
      return std::nullopt;
    const PortIndex index{static_cast<u16>(found - remotes_.begin())};
    if (found == remotes_.end()) {
      UdpAddress back = from; // a sender's port is any; it listens at the same port as we (RFC 7348 §5)
      if (back.storage.ss_family == AF_INET)
        reinterpret_cast<sockaddr_in &>(back.storage).sin_port =
            reinterpret_cast<const sockaddr_in &>(settings_.local.storage).sin_port;
      else
        reinterpret_cast<sockaddr_in6 &>(back.storage).sin6_port =
            reinterpret_cast<const sockaddr_in6 &>(settings_.local.storage).sin6_port;
      remotes_.push_back(back);
    }
    return index;
  }

  void receive() {
    batch_.clear();
    while (!batch_.full()) {
      UdpAddress from;
      u8 header[kHeader];
      u8 *to = batch_.reserve(kMaxFrame);
      if (!to) break;
      iovec io[2] = {{header, kHeader}, {to, kMaxFrame}};
      msghdr m{};
      m.msg_name = &from.storage;
      m.msg_namelen = sizeof from.storage;
      m.msg_iov = io;
      m.msg_iovlen = 2;
      const ssize_t n = recvmsg(fd_.get(), &m, MSG_DONTWAIT);
      if (n < 0) break;
      const auto remote = remote_of(from);
      if (!remote || n < static_cast<ssize_t>(kHeader + kEthernetHeader) || !(header[0] & 8) ||
          load_be32(header + 4) >> 8 != settings_.vni) {
        strangers_++;
        continue;
      }
      Frame &f = batch_.commit(static_cast<u32>(n) - kHeader);
      // Addresses behind remote ends are kept under VLAN 0 and the tag alike: `send` looks them up as the switch
      // classified them.
      if (const MacAddress source = f.source(); !source.is_group() && !source.is_zero())
        (void)places_.learn({vlan_of(f), source}, *remote, second(), kRemoteTable);
    }
    if (!batch_.empty()) context_.host.received(batch_.frames());
  }
  [[nodiscard]] VlanId vlan_of(const Frame &f) const {
    return is_tpid(load_be16(f.data + 12)) ? VlanId{static_cast<u16>(load_be16(f.data + 14) & 0xfff)} : kNoVlan;
  }

  PortContext context_;
  Fd fd_;
  Settings settings_;
  std::vector<UdpAddress> remotes_;
  std::optional<u32> mtu_;
  Fdb places_;        // remote addresses; a port index stands for a remote's number
  u64 strangers_ = 0; // datagrams from unknown senders, of another VNI, or malformed
  Loop::TimerId timer_ = 0;
  FrameBatch batch_, scratch_;
};

// The MTU of the interface that a datagram to `to` leaves by.
std::optional<u32> path_mtu(const UdpAddress &to) {
  const Fd fd(socket(to.storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  int mtu = 0;
  socklen_t size = sizeof mtu;
  if (!fd || connect(fd.get(), to.raw(), to.size())) return std::nullopt;
  const bool v4 = to.storage.ss_family == AF_INET;
  if (getsockopt(fd.get(), v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_MTU : IPV6_MTU, &mtu, &size) || mtu <= 0)
    return std::nullopt;
  return static_cast<u32>(mtu);
}

Result<void> join_group(const Fd &fd, const UdpAddress &group, const std::string &interface) {
  group_req request{};
  request.gr_interface = interface.empty() ? 0 : if_nametoindex(interface.c_str());
  if (!interface.empty() && !request.gr_interface) return fail("there is no interface '{}'", interface);
  std::memcpy(&request.gr_group, &group.storage, sizeof group.storage);
  const bool v4 = group.storage.ss_family == AF_INET;
  if (setsockopt(fd.get(), v4 ? IPPROTO_IP : IPPROTO_IPV6, MCAST_JOIN_GROUP, &request, sizeof request))
    return fail_errno(fmt::format("cannot join group {}", to_string(group)));
  const int index = static_cast<int>(request.gr_interface), no = 0;
  const ip_mreqn out{.imr_multiaddr = {}, .imr_address = {}, .imr_ifindex = index};
  const bool set = !index || (v4 ? !setsockopt(fd.get(), IPPROTO_IP, IP_MULTICAST_IF, &out, sizeof out)
                                 : !setsockopt(fd.get(), IPPROTO_IPV6, IPV6_MULTICAST_IF, &index, sizeof index));
  if (!set) return fail_errno("cannot choose the group's interface");
  (void)setsockopt(fd.get(), v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_MULTICAST_LOOP : IPV6_MULTICAST_LOOP, &no,
                   sizeof no);
  return {};
}

Result<Settings> read_settings(const PortOptions &o) {
  Settings s;
  const auto vni = number_option(o, "vni", 1u << 24, 0, (1u << 24) - 1);
  if (!vni) return std::unexpected(vni.error());
  if (*vni == 1u << 24) return fail("vni is missing");
  s.vni = static_cast<u32>(*vni);
  const auto local = text_option(o, "local", "0.0.0.0");
  if (!local) return std::unexpected(local.error());
  auto address = parse_udp_address(*local, kPort);
  if (!address) return std::unexpected(address.error());
  s.local = *address;
  if (const auto found = o.find("remotes"); found != o.end()) {
    if (!found->is_array()) return fail("remotes is {}; expected a list of addresses", found->dump());
    for (const auto &item : *found) {
      auto remote = parse_udp_address(item.is_string() ? item.get<std::string>() : item.dump(), kPort);
      if (!remote) return std::unexpected(remote.error());
      s.remotes.push_back(*remote);
    }
  }
  if (o.contains("group")) {
    const auto text = text_option(o, "group");
    if (!text) return std::unexpected(text.error());
    auto group = parse_udp_address(*text, kPort);
    if (!group) return std::unexpected(group.error());
    if (!group->is_multicast()) return fail("group is {}; expected a multicast address", *text);
    s.group = *group;
  }
  const auto interface = text_option(o, "interface", "-");
  if (!interface) return std::unexpected(interface.error());
  if (*interface != "-") s.interface = *interface;
  const auto learn = flag_option(o, "learn_remotes", false);
  if (!learn) return std::unexpected(learn.error());
  s.learn_remotes = *learn;
  if (s.remotes.empty() && !s.group && !s.learn_remotes)
    return fail("remotes, group or learn_remotes is missing: the tunnel leads nowhere");
  return s;
}

Result<std::unique_ptr<PortDevice>> open_port(const PortContext &context, const PortOptions &o) {
  auto s = read_settings(o);
  if (!s) return std::unexpected(s.error());
  Fd fd(socket(s->local.storage.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd || bind(fd.get(), s->local.raw(), s->local.size()))
    return fail_errno(fmt::format("cannot bind to {}", to_string(s->local)));
  const int buffer = 8 << 20;
  (void)setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer);
  if (s->group)
    if (auto ok = join_group(fd, *s->group, s->interface); !ok) return std::unexpected(ok.error());
  std::optional<u32> mtu;
  for (const auto *to = s->remotes.data(); to != s->remotes.data() + s->remotes.size(); to++)
    if (const auto path = path_mtu(*to)) {
      const u32 overhead = to->storage.ss_family == AF_INET ? kOverhead4 : kOverhead6;
      mtu = std::min(mtu.value_or(~u32{0}), *path > overhead ? *path - overhead : 0);
    }
  const auto check = flag_option(o, "mtu_check", true);
  if (!check) return std::unexpected(check.error());
  if (*check && mtu && *mtu < context.mtu)
    return fail("the way to the remotes carries frames of MTU {} in the tunnel, but this port's is {}; set mtu: {} "
                "here or at the switch, raise the network's, or set mtu_check: false",
                *mtu, context.mtu, *mtu);
  return std::make_unique<VxlanPort>(context, std::move(fd), std::move(*s), mtu);
}

} // namespace

const PortKind kVxlanPort{"vxlan", "vni, local, remotes, group, interface, learn_remotes, mtu_check", true, open_port};

} // namespace abyme::net
