#include "net/ports/vhost_user/vhost_user.hpp"
#include "net/ports/options.hpp"
#include "net/ports/sockets.hpp"
#include "net/vhost/net_device.hpp"
#include <sys/epoll.h>
#include <unistd.h>

namespace abyme::net {
namespace {

constexpr Nanoseconds kRetry = 200'000'000;

struct Settings {
  std::string path;
  bool server = true;
  unsigned pairs = 4;
};

u32 hash_flow(const Frame &f) { // both addresses and, for IP, what follows: enough to spread flows over queues
  u32 hash = 0;
  const u32 n = std::min<u32>(f.length & ~3u, 40);
  for (u32 at = 0; at < n; at += 4) {
    if (at == 16 || at == 20 || at == 24) continue; // length, identification and checksum of IPv4
    u32 word;
    std::memcpy(&word, f.data + at, 4);
    hash = (hash ^ word) * 0x9e37'79b1u;
    hash ^= hash >> 15;
  }
  return hash;
}

class VhostUserPort final : public PortDevice, public Poller, public NetDeviceOwner {
public:
  VhostUserPort(const PortContext &context, Settings settings) : context_(context), settings_(std::move(settings)) {}
  ~VhostUserPort() override {
    disconnect();
    if (retry_) context_.loop.cancel(retry_);
    if (!listener_) return;
    context_.loop.unwatch(listener_.get());
    unlink(settings_.path.c_str());
  }

  Result<void> start() {
    if (!settings_.server) {
      try_connect();
      return {};
    }
    auto listener = listen_unix(settings_.path);
    if (!listener) return std::unexpected(listener.error());
    listener_ = std::move(*listener);
    context_.loop.watch(listener_.get(), EPOLLIN, [this](u32) { on_connect(); });
    return {};
  }

  void transmit(std::span<Egress> frames) override;
  unsigned poll() override;
  bool arm() override;
  void disarm() override;
  void kick_changed(unsigned queue) override;
  void queues_changed() override;
  void rarp_asked(MacAddress mac) override { context_.host.announce(mac); }
  nlohmann::json describe() const override;
  std::optional<u32> mtu() const override {
    return device_ && device_->mtu() ? std::optional<u32>(device_->mtu()) : std::nullopt;
  }

private:
  void on_connect();
  void try_connect();
  void serve(Fd socket);
  void on_message();
  void disconnect();
  void end(std::string_view why);
  void queue_broke(unsigned queue);
  void call(VhostNetDevice::Queue &q);
  [[nodiscard]] bool is_ready() const { return !receiving_.empty() && !sending_.empty(); }
  void transmit_on(unsigned queue, std::span<Egress> frames);
  void transmit_spread(std::span<Egress> frames);
  [[nodiscard]] DropReason transmit_finished(const Egress &e);

  PortContext context_;
  Settings settings_;
  Fd listener_, socket_;
  Loop::TimerId retry_ = 0;
  VhostReader reader_;
  std::unique_ptr<VhostNetDevice> device_;
  std::vector<int> watched_kicks_;  // by queue; -1: none
  std::vector<unsigned> sending_;   // running queues with frames from the guest (odd, virtio 1.2 §5.1.2)
  std::vector<unsigned> receiving_; // running queues for frames to the guest (even)
  std::size_t turn_ = 0;            // of sending_
  bool armed_ = false;
  u64 connections_ = 0;
  FrameBatch batch_, scratch_;
  std::vector<Egress> one_queue_;
};

void VhostUserPort::on_connect() {
  Fd socket = accept_unix(listener_); // one a turn: a peer that connects in a loop slows nobody
  if (!socket) return;
  if (socket_) { // the one guest of this port stays; a second front-end is an error of somebody's configuration
    context_.host.misbehaved("a second front-end connected while one is; it was refused");
    return;
  }
  serve(std::move(socket));
}

void VhostUserPort::try_connect() {
  retry_ = 0;
  auto socket = connect_unix(settings_.path);
  if (socket) return serve(std::move(*socket));
  retry_ = context_.loop.at(context_.loop.clock().now() + kRetry, [this] { try_connect(); });
}

void VhostUserPort::serve(Fd socket) {
  socket_ = std::move(socket);
  reader_ = {};
  device_ = std::make_unique<VhostNetDevice>(settings_.pairs, *this);
  watched_kicks_.assign(device_->queue_count(), -1);
  connections_++;
  context_.loop.watch(socket_.get(), EPOLLIN | EPOLLRDHUP, [this](u32) { on_message(); });
}

void VhostUserPort::on_message() {
  constexpr int kAtOnce = 64; // messages a turn: a peer that floods them gets no more of the switch's time
  for (int i = 0; i < kAtOnce; i++) {
    auto step = reader_.read(socket_.get());
    if (!step) return end(step.error().message);
    if (step->closed) return end("");
    if (!step->message) return;
    auto reply = device_->handle(std::move(*step->message));
    if (!reply) return end(reply.error().message);
    if (!*reply) continue;
    if (auto sent = send_message(socket_.get(), **reply); !sent) return end(sent.error().message);
  }
}

void VhostUserPort::end(std::string_view why) {
  if (!why.empty()) context_.host.misbehaved(fmt::format("vhost-user: {}; its connection is closed", why));
  disconnect();
  if (!settings_.server) retry_ = context_.loop.at(context_.loop.clock().now() + kRetry, [this] { try_connect(); });
}

void VhostUserPort::disconnect() {
  if (!socket_) return;
  context_.loop.remove(*this);
  for (int fd : watched_kicks_)
    if (fd >= 0) context_.loop.unwatch(fd);
  watched_kicks_.clear();
  const bool was_ready = is_ready();
  sending_.clear();
  receiving_.clear();
  context_.loop.unwatch(socket_.get());
  socket_.reset();
  device_.reset();
  if (was_ready) context_.host.connected(false);
}

void VhostUserPort::kick_changed(unsigned i) {
  if (watched_kicks_[i] >= 0) context_.loop.unwatch(watched_kicks_[i]);
  const int fd = device_->queue(i).kick.get();
  watched_kicks_[i] = i % 2 ? fd : -1; // free buffers are looked at when a frame needs one
  if (watched_kicks_[i] < 0) return;
  context_.loop.watch(fd, EPOLLIN, [this, fd, i](u32 events) {
    u64 count;
    const bool dead = events & (EPOLLERR | EPOLLHUP) || (read(fd, &count, sizeof count) < 0 && errno != EAGAIN);
    if (dead) { // no eventfd: it would wake us for ever
      context_.loop.unwatch(fd);
      watched_kicks_[i] = -1;
    }
    context_.loop.wake(*this);
  });
}

void VhostUserPort::queues_changed() {
  const bool was_ready = is_ready();
  sending_.clear();
  receiving_.clear();
  for (unsigned i = 0; i < device_->queue_count(); i++) {
    if (!device_->queue(i).running) continue;
    device_->queue(i).ring.want_kicks(false);
    (i % 2 ? sending_ : receiving_).push_back(i);
  }
  if (is_ready() != was_ready) context_.host.connected(is_ready());
  if (!sending_.empty()) {
    context_.loop.wake(*this);
    armed_ = false;
  }
}

bool VhostUserPort::arm() {
  armed_ = true;
  bool missed = false;
  for (unsigned i : sending_) {
    auto &ring = device_->queue(i).ring;
    ring.want_kicks(true);
    missed |= ring.has_available();
  }
  return missed;
}

void VhostUserPort::disarm() {
  armed_ = false;
  for (unsigned i : sending_) device_->queue(i).ring.want_kicks(false);
}

void VhostUserPort::call(VhostNetDevice::Queue &q) {
  if (!q.ring.wants_call() || !q.call) return;
  const u64 one = 1;
  (void)!write(q.call.get(), &one, sizeof one); // a full eventfd has told its reader already
}

unsigned VhostUserPort::poll() {
  if (sending_.empty()) return 0;
  const unsigned i = sending_[turn_++ % sending_.size()];
  auto &q = device_->queue(i);
  batch_.clear();
  const auto health = q.ring.receive(device_->memory(), device_->net(), batch_);
  const unsigned count = batch_.size();
  if (device_->memory().torn()) {
    end("it took away memory that it had shared");
    return 0;
  }
  if (count) {
    call(q);
    context_.host.received(batch_.frames());
  }
  if (health == NetRing::Health::Broken && device_) queue_broke(i);
  return count;
}

void VhostUserPort::queue_broke(unsigned i) {
  auto &q = device_->queue(i);
  context_.host.misbehaved(
      fmt::format("queue {} has a descriptor chain that is none (outside memory, looping, or of the wrong direction); "
                  "the queue is stopped until the driver resets it",
                  i));
  if (q.error) {
    const u64 one = 1;
    (void)!write(q.error.get(), &one, sizeof one);
  }
  q.enabled = false;
  device_->stop(i);
}

void VhostUserPort::transmit(std::span<Egress> frames) {
  if (!is_ready()) {
    for (Egress &e : frames) e.outcome = DropReason::Disconnected;
    return;
  }
  const OffloadSupport can = device_->net().guest_finishes;
  bool plain = true;
  for (const Egress &e : frames) plain &= supported(e.frame->offload, can);
  if (plain) return transmit_spread(frames);
  for (Egress &e : frames) {
    if (supported(e.frame->offload, can))
      transmit_spread({&e, 1});
    else
      e.outcome = transmit_finished(e);
    if (!is_ready()) return;
  }
}

DropReason VhostUserPort::transmit_finished(const Egress &e) {
  DropReason outcome = DropReason::None;
  finish_offloads(*e.frame, scratch_, [&](std::span<Frame> frames) {
    for (const Frame &f : frames) {
      Egress piece{.frame = &f, .edit = e.edit};
      if (is_ready()) transmit_spread({&piece, 1});
      if (piece.outcome != DropReason::None) outcome = piece.outcome;
    }
  });
  return outcome;
}

void VhostUserPort::transmit_spread(std::span<Egress> frames) {
  if (receiving_.size() == 1) return transmit_on(receiving_[0], frames);
  for (std::size_t i = 0; i < frames.size() && is_ready();) { // runs of one flow stay together and in order
    const u32 queue = hash_flow(*frames[i].frame) % receiving_.size();
    std::size_t last = i + 1;
    while (last < frames.size() && hash_flow(*frames[last].frame) % receiving_.size() == queue) last++;
    transmit_on(receiving_[queue], frames.subspan(i, last - i));
    i = last;
  }
}

void VhostUserPort::transmit_on(unsigned i, std::span<Egress> frames) {
  auto &q = device_->queue(i);
  const auto health = q.ring.transmit(device_->memory(), device_->net(), frames);
  call(q);
  if (health == NetRing::Health::Broken) queue_broke(i);
}

nlohmann::json VhostUserPort::describe() const {
  nlohmann::json out = {
      {"path", settings_.path}, {"mode", settings_.server ? "server" : "client"}, {"connections", connections_}};
  if (!device_) return out;
  out["ring"] = device_->packed() ? "packed" : "split";
  out["queues"] = std::min(sending_.size(), receiving_.size());
  out["features"] = fmt::format("{:#x}", device_->features());
  return out;
}

Result<std::unique_ptr<PortDevice>> open(const PortContext &context, const PortOptions &o) {
  const auto path = text_option(o, "path");
  if (!path) return std::unexpected(path.error());
  const auto mode = text_option(o, "mode", "server");
  if (!mode) return std::unexpected(mode.error());
  if (*mode != "server" && *mode != "client") return fail("mode is '{}'; expected server or client", *mode);
  const auto pairs = number_option(o, "queues", 4, 1, VhostNetDevice::kMaxPairs);
  if (!pairs) return std::unexpected(pairs.error());
  auto port = std::make_unique<VhostUserPort>(
      context, Settings{.path = *path, .server = *mode == "server", .pairs = static_cast<unsigned>(*pairs)});
  if (auto ok = port->start(); !ok) return std::unexpected(ok.error());
  return port;
}

} // namespace

const PortKind kVhostUserPort{"vhost-user", "path, mode, queues", false, open};

} // namespace abyme::net
