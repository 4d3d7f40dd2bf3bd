#include "devices/vhost_user_net/net.hpp"
#include "base/log.hpp"
#include "devices/virtio/state_bytes.hpp"
#include <sys/eventfd.h>
#include <sys/timerfd.h>

namespace abyme::virtio {
namespace {

constexpr u16 kMaxPairs = 16;
constexpr u16 kControlQueueSize = 64;
constexpr u64 kMaxCommandBytes = 64_KiB;
constexpr long kRetryNanoseconds = 200'000'000;
constexpr u16 kStatusLinkUp = 1, kStatusAnnounce = 2; // virtio 1.2 §5.1.4
// What is offered while no back end is there to ask: every back end worth the name can do these.
constexpr u64 kAssumed = net::kMrgRxbuf | kRingFeatures;
constexpr u64 kNeedsBackend = net::kDataFeatures | kRingFeatures;

} // namespace

Result<std::unique_ptr<VhostUserNet>> VhostUserNet::open(const VhostUserNetConfig &config) {
  if (config.socket.empty()) return fail("network card: no socket given; vhost-user:PATH names one");
  if (config.queue_pairs == 0 || config.queue_pairs > kMaxPairs)
    return fail("network card {}: {} queue pairs; 1 to {} are right", config.socket, config.queue_pairs, kMaxPairs);
  if (config.queue_size == 0 || config.queue_size > 1024 || (config.queue_size & (config.queue_size - 1)) != 0)
    return fail("network card {}: queues of {} entries; a power of two up to 1024 is right", config.socket,
                config.queue_size);
  if ((config.mac[0] & 1) != 0 || config.mac == MacAddress{})
    return fail("network card {}: its MAC address is not that of one station", config.socket);
  return std::unique_ptr<VhostUserNet>(new VhostUserNet(config));
}

VhostUserNet::VhostUserNet(const VhostUserNetConfig &config)
    : config_(config), queue_sizes_(config.queue_pairs * 2, config.queue_size),
      control_(config.mac, config.queue_pairs) {
  queue_sizes_.push_back(kControlQueueSize);
}

VhostUserNet::~VhostUserNet() {
  if (!thread_.joinable()) return;
  loop_->stop();
  thread_.join();
}

Result<void> VhostUserNet::attach(Transport &transport) {
  transport_ = &transport;
  auto loop = EventLoop::create();
  if (!loop) return std::unexpected(loop.error());
  loop_ = std::move(*loop);
  retry_timer_ = Fd(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!retry_timer_) return fail_errno("network card: timerfd_create");
  const auto watch = [this](int fd, u32 events, std::function<void(u32)> ready) -> Result<EventLoop::Watch *> {
    auto made = loop_->watch(fd, events, std::move(ready));
    if (!made) return std::unexpected(made.error());
    return watches_.emplace_back(std::move(*made)).get();
  };
  if (const auto w = watch(retry_timer_.get(), EPOLLIN, [this](u32) { try_connect(); }); !w)
    return std::unexpected(w.error());
  for (u16 q = 0; q < data_queues(); ++q) {
    const auto w = watch(transport.call_fd(q), EPOLLIN, [this, q](u32) { forward_call(q); });
    if (!w) return std::unexpected(w.error());
  }
  // The control queue's place depends on whether the driver takes MQ (virtio 1.2 §5.1.2).
  for (const u16 q : {u16{2}, data_queues()}) {
    if (control_watches_.contains(q)) continue;
    const auto w = watch(transport.kick_fd(q), 0, [this, q](u32) { control_kicked(q); });
    if (!w) return std::unexpected(w.error());
    control_watches_[q] = *w;
  }
  try_connect();
  thread_ = std::jthread([this] { loop_->run(); });
  return {};
}

u64 VhostUserNet::features() {
  const std::lock_guard lock(lock_);
  const u64 data = backend_ ? backend_->features() & kNeedsBackend : kAssumed;
  return data | net::kControlFeatures | (config_.queue_pairs > 1 ? net::kMq : 0);
}

void VhostUserNet::read_config(u32 offset, std::span<u8> to) {
  const std::lock_guard lock(lock_);
  std::array<u8, 10> space{};
  const auto status = static_cast<u16>((link_up_ ? kStatusLinkUp : 0) | (announce_ ? kStatusAnnounce : 0));
  std::memcpy(space.data(), control_.state.mac.data(), 6);
  std::memcpy(space.data() + 6, &status, 2);
  std::memcpy(space.data() + 8, &config_.queue_pairs, 2);
  std::memcpy(to.data(), space.data() + offset, to.size());
}

ControlState VhostUserNet::control() const {
  const std::lock_guard lock(lock_);
  return control_.state;
}

bool VhostUserNet::link_up() const {
  const std::lock_guard lock(lock_);
  return link_up_;
}

// --- the back end's coming and going ---

void VhostUserNet::retry_later() {
  const itimerspec when{.it_interval = {}, .it_value = {.tv_sec = 0, .tv_nsec = kRetryNanoseconds}};
  timerfd_settime(retry_timer_.get(), 0, &when, nullptr);
}

void VhostUserNet::complain(const Error &why) {
  if (why.message != last_complaint_) log::warn("{}; the link is down, and the card keeps trying", why.message);
  last_complaint_ = why.message;
}

void VhostUserNet::try_connect() {
  u64 expirations;
  [[maybe_unused]] const auto got = ::read(retry_timer_.get(), &expirations, sizeof expirations);
  auto backend = VhostUserBackend::connect(config_.socket);
  {
    const std::lock_guard lock(lock_);
    const auto adopted = backend ? adopt(std::move(*backend)) : Result<void>(std::unexpected(backend.error()));
    if (!adopted) {
      complain(adopted.error());
      return retry_later();
    }
    auto watch = loop_->watch(backend_->fd(), EPOLLRDHUP, [this](u32) { backend_left(); });
    if (!watch) return complain(watch.error());
    backend_watch_ = std::move(*watch);
  }
  transport_->notify_config();
}

Result<void> VhostUserNet::check(const VhostUserBackend &backend) const {
  if (backend.queue_pairs() < config_.queue_pairs)
    return fail("vhost-user {}: the back end has {} queue pairs, the card {}", config_.socket, backend.queue_pairs(),
                config_.queue_pairs);
  if (const u64 missing = features_ & kNeedsBackend & ~backend.features())
    return fail("vhost-user {}: the back end lacks features {:#x}, which the driver already uses", config_.socket,
                missing);
  return {};
}

Result<void> VhostUserNet::adopt(std::unique_ptr<VhostUserBackend> backend) {
  if (const auto suits = check(*backend); !suits) return suits;
  backend_ = std::move(backend);
  if (const auto started = start_rings(); !started) {
    backend_.reset();
    return started;
  }
  link_up_ = true;
  announce_ = lost_ && started_ && (features_ & net::kGuestAnnounce);
  lost_ = false;
  last_complaint_.clear();
  log::info("vhost-user {}: connected", config_.socket);
  return {};
}

void VhostUserNet::backend_left() {
  backend_watch_.reset();
  {
    const std::lock_guard lock(lock_);
    lost_ = lost_ || running_;
    if (running_) find_positions();
    running_ = false;
    backend_.reset();
    link_up_ = false;
    complain({fmt::format("vhost-user {}: the back end is gone", config_.socket)});
  }
  transport_->notify_config();
  retry_later();
}

// The connection is of no more use: its end brings backend_left().
void VhostUserNet::give_up(const Error &why) {
  complain(why);
  backend_->shut_down();
}

// --- the rings ---

std::vector<VhostRing> VhostUserNet::rings() const {
  std::vector<VhostRing> list;
  for (u16 i = 0; i < data_queues() && i < queues_.size(); ++i)
    if (const StartedQueue &q = queues_[i]; q.enabled && i != control_index())
      list.push_back({i, q.setup, q.position.next_available, transport_->kick_fd(i), transport_->call_fd(i)});
  return list;
}

Result<void> VhostUserNet::start_rings() {
  if (!started_ || paused_ || !backend_ || running_) return {};
  const auto list = rings();
  if (const auto started = backend_->start(transport_->memory(), features_, list); !started) return started;
  running_ = true;
  if (const auto enabled = enable_pairs(); !enabled) {
    running_ = false;
    return enabled;
  }
  for (const VhostRing &ring : list) {
    eventfd_write(ring.kick_fd, 1); // the last back end may have taken a kick that it did not act on
    if (lost_) eventfd_write(ring.call_fd, 1);
  }
  return {};
}

// On the device's thread, since it takes several messages: the vCPU that set DRIVER_OK does not wait for them.
void VhostUserNet::start_rings_later() {
  loop_->post([this] {
    const std::lock_guard lock(lock_);
    if (const auto started = start_rings(); !started) give_up(started.error());
  });
}

Result<void> VhostUserNet::enable_pairs() {
  if (!running_) return {};
  for (const VhostRing &ring : rings())
    if (const auto done = backend_->enable(ring.index, ring.index / 2 < control_.state.active_pairs); !done)
      return done;
  return {};
}

void VhostUserNet::stop_rings() {
  if (!running_) return;
  find_positions();
  for (const VhostRing &ring : rings()) {
    const auto base = backend_->stop(ring.index);
    if (!base) {
      give_up(base.error());
      break;
    }
    queues_[ring.index].position.next_available = *base;
  }
  for (const VhostRing &ring : rings())
    (void)transport_->memory().load(ring.setup.used + 2, queues_[ring.index].position.next_used);
  running_ = false;
}

// Where the rings stand if the back end cannot be asked: what is not used is done again.
void VhostUserNet::find_positions() {
  for (const VhostRing &ring : rings()) {
    u16 used = 0;
    if (transport_->memory().load(ring.setup.used + 2, used)) queues_[ring.index].position = {used, used};
  }
}

void VhostUserNet::forward_call(u16 queue) {
  eventfd_t count;
  if (eventfd_read(transport_->call_fd(queue), &count) != 0) return;
  u64 epoch;
  {
    const std::lock_guard lock(lock_);
    if (!started_) return;
    epoch = epoch_;
  }
  transport_->notify_used(queue, epoch);
}

// --- what the driver does ---

u16 VhostUserNet::control_index() const { return features_ & net::kMq ? data_queues() : u16{2}; }

void VhostUserNet::start(u64 features, std::span<const StartedQueue> queues, u64 epoch) {
  const std::lock_guard lock(lock_);
  features_ = features;
  epoch_ = epoch;
  queues_.assign(queues.begin(), queues.end());
  started_ = true;
  const u16 control = control_index();
  if (const StartedQueue &q = queues_[control]; (features & net::kCtrlVq) && q.enabled) {
    const Queue::Features ring{.event_idx = (features & kRingEventIdx) != 0,
                               .indirect = (features & kRingIndirectDesc) != 0};
    if (auto opened = Queue::open(transport_->memory(), q.setup, ring, q.position)) control_queue_ = *opened;
    control_watches_.at(control)->set_events(EPOLLIN);
    eventfd_write(transport_->kick_fd(control), 1);
  }
  start_rings_later();
}

void VhostUserNet::stop() {
  const std::lock_guard lock(lock_);
  stop_rings();
  for (const auto &[queue, watch] : control_watches_) watch->set_events(0);
  control_queue_.reset();
  control_.reset();
  queues_.clear();
  features_ = 0;
  started_ = paused_ = announce_ = lost_ = false;
}

void VhostUserNet::pause(std::span<QueuePosition> positions) {
  const std::lock_guard lock(lock_);
  paused_ = true;
  stop_rings();
  if (control_queue_) queues_[control_index()].position = control_queue_->position();
  for (std::size_t i = 0; i < queues_.size(); ++i) positions[i] = queues_[i].position;
}

void VhostUserNet::resume() {
  const std::lock_guard lock(lock_);
  paused_ = false;
  if (control_queue_) eventfd_write(transport_->kick_fd(control_index()), 1);
  start_rings_later();
}

std::vector<u8> VhostUserNet::save() { return to_bytes(control()); }

Result<void> VhostUserNet::load(std::span<const u8> bytes) {
  const auto state = from_bytes<ControlState>("network card", bytes);
  if (!state) return std::unexpected(state.error());
  const std::lock_guard lock(lock_);
  if (!control_.valid(*state))
    return fail("network card: its saved state has more queue pairs or addresses than there can be");
  control_.state = *state;
  return {};
}

// --- the control queue ---

void VhostUserNet::control_kicked(u16 queue) {
  {
    const std::lock_guard lock(lock_);
    eventfd_t count;
    // Without one, this queue's kicks are the back end's to take.
    if (!control_queue_ || queue != control_index() || eventfd_read(transport_->kick_fd(queue), &count) != 0) return;
  }
  for (Outcome outcome{.more = true}; outcome.more;) {
    outcome = serve_control();
    if (outcome.fault) transport_->needs_reset(outcome.epoch, fmt::format("control queue: {}", name(*outcome.fault)));
    if (outcome.notify) transport_->notify_used(queue, outcome.epoch);
  }
}

VhostUserNet::Outcome VhostUserNet::serve_control() {
  const std::lock_guard lock(lock_);
  if (!control_queue_ || paused_) return {};
  Chain chain;
  const auto popped = control_queue_->pop(chain);
  if (popped && !*popped) return {.more = control_queue_->enable_kicks()};
  const auto done = popped ? execute(chain, *control_queue_) : std::unexpected(popped.error());
  if (done) return {.more = true, .notify = control_queue_->take_notification(), .epoch = epoch_};
  control_queue_.reset();
  return {.fault = done.error(), .epoch = epoch_};
}

// struct virtio_net_ctrl (virtio 1.2 §5.1.6.5): class, command, data, and one byte for the answer.
std::expected<void, QueueFault> VhostUserNet::execute(const Chain &chain, Queue &queue) {
  const u64 size = chain.readable_size();
  if (size < 2 || size > kMaxCommandBytes || chain.writable_size() == 0) return std::unexpected(QueueFault::NoRoom);
  std::vector<u8> command(size);
  (void)copy_out(chain.readable, 0, command);
  const u16 pairs_before = control_.state.active_pairs;
  const bool ok = control_.execute(features_, command[0], command[1], std::span(command).subspan(2));
  if (control_.take_announce_ack()) announce_ = false;
  if (control_.state.active_pairs != pairs_before)
    if (const auto enabled = enable_pairs(); !enabled) give_up(enabled.error());
  const u8 answer = ok ? 0 : 1; // VIRTIO_NET_OK, VIRTIO_NET_ERR
  queue.push(chain.head, static_cast<u32>(copy_in(transport_->memory(), chain.writable, 0, {&answer, 1})));
  return {};
}

} // namespace abyme::virtio
