#include "net/ports/packet/packet.hpp"
#include "net/ports/finish.hpp"
#include "net/ports/options.hpp"
#include <arpa/inet.h>
#include <cerrno>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

namespace abyme::net {
namespace {

constexpr u16 kAllProtocols = 0x0003; // ETH_P_ALL
constexpr std::size_t kHeader = 10;   // struct virtio_net_hdr
constexpr OffloadSupport kSupport{.checksum = true, .tso4 = true, .tso6 = true};

class PacketPort final : public PortDevice {
public:
  PacketPort(const PortContext &context, Fd fd, std::string name, u32 mtu)
      : context_(context), fd_(std::move(fd)), name_(std::move(name)), mtu_(mtu) {
    context_.loop.watch(fd_.get(), EPOLLIN, [this](u32) { receive(); });
    context_.host.connected(true);
  }
  ~PacketPort() override { context_.loop.unwatch(fd_.get()); }

  void transmit(std::span<Egress> frames) override {
    for (Egress &e : frames)
      send_finished(e, kSupport, scratch_, [&](const Frame &f, TagEdit edit) { return send(f, edit); });
  }
  nlohmann::json describe() const override { return {{"interface", name_}, {"mtu", mtu_}}; }
  std::optional<u32> mtu() const override { return mtu_; }

private:
  DropReason send(const Frame &f, TagEdit edit) {
    Offload o = wire_offload(f, edit);
    WirePieces pieces;
    wire_pieces(f, edit, pieces);
    iovec io[4] = {{&o, kHeader}, {}, {}, {}};
    for (int i = 0; i < 3; i++) io[i + 1] = {const_cast<u8 *>(pieces.piece[i].data()), pieces.piece[i].size()};
    if (writev(fd_.get(), io, 4) > 0) return DropReason::None;
    if (errno == EAGAIN || errno == ENOBUFS) return DropReason::QueueFull;
    return errno == EMSGSIZE ? DropReason::MtuExceeded : DropReason::DeviceError;
  }

  // The kernel takes a frame's outer tag off and hands it over beside the frame; it goes back where it was.
  static u32 restore_tag(msghdr &header, u8 *frame, u32 length, Offload &o) {
    for (auto *c = CMSG_FIRSTHDR(&header); c; c = CMSG_NXTHDR(&header, c)) {
      if (c->cmsg_level != SOL_PACKET || c->cmsg_type != PACKET_AUXDATA) continue;
      tpacket_auxdata aux;
      std::memcpy(&aux, CMSG_DATA(c), sizeof aux);
      if (!(aux.tp_status & TP_STATUS_VLAN_VALID) || length < kEthernetHeader) return length;
      std::memmove(frame + 12 + kTagBytes, frame + 12, length - 12);
      store_be16(frame + 12, aux.tp_status & TP_STATUS_VLAN_TPID_VALID ? aux.tp_vlan_tpid : kTpidCustomer);
      store_be16(frame + 14, aux.tp_vlan_tci);
      if (o.flags & kNeedsChecksum) o.checksum_start = static_cast<u16>(o.checksum_start + kTagBytes);
      return length + kTagBytes;
    }
    return length;
  }

  void receive() {
    batch_.clear();
    while (!batch_.full()) {
      Offload o;
      alignas(cmsghdr) char control[CMSG_SPACE(sizeof(tpacket_auxdata))];
      u8 *to = batch_.reserve(kMaxFrame);
      if (!to) break;
      iovec io[2] = {{&o, kHeader}, {to, kMaxFrame - kTagBytes}};
      msghdr header{};
      header.msg_iov = io;
      header.msg_iovlen = 2;
      header.msg_control = control;
      header.msg_controllen = sizeof control;
      const ssize_t n = recvmsg(fd_.get(), &header, MSG_DONTWAIT);
      if (n < static_cast<ssize_t>(kHeader)) break;
      o.flags &= kNeedsChecksum;
      if (!o.flags && !o.gso_type) o = {};
      const u32 length = restore_tag(header, to, static_cast<u32>(n) - kHeader, o);
      batch_.commit(length, o);
    }
    if (!batch_.empty()) context_.host.received(batch_.frames());
  }

  PortContext context_;
  Fd fd_;
  std::string name_;
  u32 mtu_;
  FrameBatch batch_, scratch_;
};

Result<void> prepare(const Fd &fd, int index, bool promiscuous) {
  const int on = 1;
  const auto set = [&](int option, const char *what) -> Result<void> {
    if (setsockopt(fd.get(), SOL_PACKET, option, &on, sizeof on)) return fail_errno(what);
    return {};
  };
  if (auto ok = set(PACKET_VNET_HDR, "the kernel has no offload headers on packet sockets"); !ok) return ok;
  if (auto ok = set(PACKET_AUXDATA, "the kernel does not tell VLAN tags on packet sockets"); !ok) return ok;
  if (auto ok = set(PACKET_IGNORE_OUTGOING, "the kernel cannot leave out our own frames on packet sockets"); !ok)
    return ok;
  const int buffer = 8 << 20;
  (void)setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer);
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(kAllProtocols);
  address.sll_ifindex = index;
  if (bind(fd.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address))
    return fail_errno("cannot bind to the interface");
  packet_mreq membership{};
  membership.mr_ifindex = index;
  membership.mr_type = PACKET_MR_PROMISC;
  if (promiscuous && setsockopt(fd.get(), SOL_PACKET, PACKET_ADD_MEMBERSHIP, &membership, sizeof membership))
    return fail_errno("cannot make the interface promiscuous");
  return {};
}

Result<std::unique_ptr<PortDevice>> open_port(const PortContext &context, const PortOptions &o) {
  const auto name = text_option(o, "interface");
  if (!name) return std::unexpected(name.error());
  const auto promiscuous = flag_option(o, "promiscuous", true);
  if (!promiscuous) return std::unexpected(promiscuous.error());
  const int index = static_cast<int>(if_nametoindex(name->c_str()));
  if (!index) return fail("there is no interface '{}'", *name);
  Fd fd(socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return fail_errno("cannot open a packet socket (it needs CAP_NET_RAW)");
  if (auto ok = prepare(fd, index, *promiscuous); !ok) return std::unexpected(ok.error());
  ifreq request{};
  name->copy(request.ifr_name, IFNAMSIZ - 1);
  if (ioctl(fd.get(), SIOCGIFMTU, &request)) return fail_errno(fmt::format("cannot read the MTU of '{}'", *name));
  return std::make_unique<PacketPort>(context, std::move(fd), *name, static_cast<u32>(request.ifr_mtu));
}

} // namespace

const PortKind kPacketPort{"packet", "interface, promiscuous", true, open_port};

} // namespace abyme::net
