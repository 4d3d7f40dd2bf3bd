#include "net/ports/tap/tap.hpp"
#include "net/ports/finish.hpp"
#include "net/ports/options.hpp"
#include <cerrno>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

namespace abyme::net {
namespace {

constexpr int kHeader = 12; // struct virtio_net_hdr_mrg_rxbuf, as our header
constexpr OffloadSupport kSupport{.checksum = true, .tso4 = true, .tso6 = true};

// The calling thread inside another network namespace, until this goes.
class InNamespace {
public:
  [[nodiscard]] static Result<InNamespace> enter(const std::string &name) {
    InNamespace in;
    const std::string path = name.find('/') == std::string::npos ? "/run/netns/" + name : name;
    in.home_ = Fd(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    const Fd there(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!in.home_ || !there || setns(there.get(), CLONE_NEWNET)) {
      in.home_.reset();
      return fail_errno(fmt::format("cannot enter network namespace '{}'", path));
    }
    return in;
  }
  InNamespace(InNamespace &&) = default;
  ~InNamespace() {
    if (home_) (void)setns(home_.get(), CLONE_NEWNET);
  }

private:
  InNamespace() = default;
  Fd home_;
};

class TapPort final : public PortDevice {
public:
  TapPort(const PortContext &context, Fd fd, std::string name)
      : context_(context), fd_(std::move(fd)), name_(std::move(name)) {
    context_.loop.watch(fd_.get(), EPOLLIN, [this](u32) { receive(); });
    context_.host.connected(true);
  }
  ~TapPort() override { context_.loop.unwatch(fd_.get()); }

  void transmit(std::span<Egress> frames) override {
    for (Egress &e : frames)
      send_finished(e, kSupport, scratch_, [&](const Frame &f, TagEdit edit) { return send(f, edit); });
  }
  nlohmann::json describe() const override { return {{"interface", name_}}; }

private:
  DropReason send(const Frame &f, TagEdit edit) {
    u8 header[kHeader] = {};
    const Offload o = wire_offload(f, edit);
    std::memcpy(header, &o, sizeof o);
    WirePieces pieces;
    wire_pieces(f, edit, pieces);
    iovec io[4] = {{header, kHeader}, {}, {}, {}};
    for (int i = 0; i < 3; i++) io[i + 1] = {const_cast<u8 *>(pieces.piece[i].data()), pieces.piece[i].size()};
    if (writev(fd_.get(), io, 4) > 0) return DropReason::None;
    return errno == EAGAIN ? DropReason::QueueFull : DropReason::DeviceError;
  }
  void receive() {
    batch_.clear();
    while (!batch_.full()) {
      u8 header[kHeader];
      u8 *to = batch_.reserve(kMaxFrame);
      if (!to) break;
      const iovec io[2] = {{header, kHeader}, {to, kMaxFrame}};
      const ssize_t n = readv(fd_.get(), io, 2);
      if (n < kHeader) break;
      Offload o;
      std::memcpy(&o, header, sizeof o);
      o.flags &= kNeedsChecksum;
      batch_.commit(static_cast<u32>(n) - kHeader, o.flags || o.gso_type ? o : Offload{});
    }
    if (!batch_.empty()) context_.host.received(batch_.frames());
  }
  PortContext context_;
  Fd fd_;
  std::string name_;
  FrameBatch batch_, scratch_;
};

Result<Fd> open_tap(std::string &name) {
  Fd fd(open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!fd)
    return fail_errno("cannot open /dev/net/tun (it needs CAP_NET_ADMIN, or a tap interface that your user owns)");
  ifreq request{};
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  if (ioctl(fd.get(), TUNSETIFF, &request)) return fail_errno(fmt::format("cannot attach to tap interface '{}'", name));
  name = request.ifr_name;
  const int header = kHeader;
  if (ioctl(fd.get(), TUNSETVNETHDRSZ, &header)) return fail_errno("cannot set the tap interface's header");
  // Not every kernel has every offload: without, the kernel finishes frames itself.
  (void)ioctl(fd.get(), TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6);
  return fd;
}

Result<void> bring_up(const std::string &name, u32 mtu) {
  const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  request.ifr_mtu = static_cast<int>(mtu);
  (void)ioctl(socket.get(), SIOCSIFMTU, &request); // an owner without CAP_NET_ADMIN keeps the interface's own
  if (ioctl(socket.get(), SIOCGIFFLAGS, &request))
    return fail_errno(fmt::format("cannot examine interface '{}'", name));
  if (request.ifr_flags & IFF_UP) return {};
  request.ifr_flags |= IFF_UP;
  if (ioctl(socket.get(), SIOCSIFFLAGS, &request))
    return fail_errno(fmt::format("cannot bring interface '{}' up", name));
  return {};
}

Result<std::unique_ptr<PortDevice>> open_port(const PortContext &context, const PortOptions &o) {
  auto name = text_option(o, "name");
  if (!name) return std::unexpected(name.error());
  if (name->size() >= IFNAMSIZ)
    return fail("name '{}' is longer than the {} bytes of an interface's", *name, IFNAMSIZ - 1);
  const auto up = flag_option(o, "bring_up", true);
  if (!up) return std::unexpected(up.error());
  const auto where = text_option(o, "netns", "-");
  if (!where) return std::unexpected(where.error());
  std::optional<InNamespace> inside;
  if (*where != "-") {
    auto entered = InNamespace::enter(*where);
    if (!entered) return std::unexpected(entered.error());
    inside.emplace(std::move(*entered));
  }
  auto fd = open_tap(*name);
  if (!fd) return std::unexpected(fd.error());
  if (*up)
    if (auto ok = bring_up(*name, context.mtu); !ok) return std::unexpected(ok.error());
  return std::make_unique<TapPort>(context, std::move(*fd), *name);
}

} // namespace

const PortKind kTapPort{"tap", "name, bring_up, netns", false, open_port};

} // namespace abyme::net
