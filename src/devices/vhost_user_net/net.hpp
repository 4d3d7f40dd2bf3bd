#pragma once
#include "base/event_loop.hpp"
#include "devices/vhost_user_net/backend.hpp"
#include "devices/vhost_user_net/control_plane.hpp"
#include "devices/virtio/device.hpp"
#include <array>
#include <map>
#include <mutex>
#include <thread>

namespace abyme::virtio {

struct VhostUserNetConfig {
  std::string socket;         // where the back end (a switch, DPDK's testpmd) listens
  std::array<u8, 6> mac = {}; // a unicast address
  u16 queue_pairs = 1;        // at most 16
  u16 queue_size = 256;
};

// A network card (virtio 1.2 §5.1) whose frames another process moves: the front-end of vhost-user. Queues 2i and 2i+1
// are receive and transmit queue of pair i, the control queue comes last and is served here. Without a back end the
// link is down; the device looks for it until it is there, and gives it all that the driver has configured, as often as
// it comes back.
class VhostUserNet final : public Device {
public:
  [[nodiscard]] static Result<std::unique_ptr<VhostUserNet>> open(const VhostUserNetConfig &config);
  ~VhostUserNet() override;

  [[nodiscard]] DeviceId id() const override { return DeviceId::Net; }
  [[nodiscard]] u64 features() override;
  [[nodiscard]] std::span<const u16> queue_sizes() const override { return queue_sizes_; }
  [[nodiscard]] u32 config_size() const override {
    return 10;
  } // struct virtio_net_config: mac, status, max_virtqueue_pairs
  void read_config(u32 offset, std::span<u8> to) override;
  void write_config(u32, std::span<const u8>) override {} // read-only: CTRL_MAC_ADDR is offered
  [[nodiscard]] bool served_outside() const override { return true; }
  [[nodiscard]] Result<void> attach(Transport &transport) override;
  void start(u64 features, std::span<const StartedQueue> queues, u64 epoch) override;
  void stop() override;
  void pause(std::span<QueuePosition> positions) override;
  void resume() override;

  using State = ControlState;
  [[nodiscard]] std::vector<u8> save() override;
  [[nodiscard]] Result<void> load(std::span<const u8> state) override;

  // What the driver asked for on the control queue. Any thread.
  [[nodiscard]] ControlState control() const;
  [[nodiscard]] bool link_up() const;

private:
  explicit VhostUserNet(const VhostUserNetConfig &config);

  // On the device's thread, lock_ not held.
  void try_connect();
  void backend_left();
  void forward_call(u16 queue);
  void control_kicked(u16 queue);

  // With lock_ held.
  [[nodiscard]] Result<void> adopt(std::unique_ptr<VhostUserBackend> backend);
  [[nodiscard]] Result<void> check(const VhostUserBackend &backend) const;
  [[nodiscard]] Result<void> start_rings();
  [[nodiscard]] std::vector<VhostRing> rings() const;
  void start_rings_later();
  void stop_rings();
  void find_positions();
  void give_up(const Error &why);
  void complain(const Error &why);
  struct Outcome {
    bool more = false;
    bool notify = false;
    std::optional<QueueFault> fault = {};
    u64 epoch = 0;
  };
  [[nodiscard]] Outcome serve_control();
  [[nodiscard]] std::expected<void, QueueFault> execute(const Chain &chain, Queue &queue);
  [[nodiscard]] Result<void> enable_pairs();
  [[nodiscard]] u16 control_index() const;
  [[nodiscard]] u16 data_queues() const { return static_cast<u16>(config_.queue_pairs * 2); }
  void retry_later();

  const VhostUserNetConfig config_;
  std::vector<u16> queue_sizes_;
  Transport *transport_ = nullptr;

  mutable std::mutex lock_; // below the device lock; guards what follows
  ControlPlane control_;
  std::unique_ptr<VhostUserBackend> backend_; // the one whose features suit, if any
  bool link_up_ = false;
  bool announce_ = false; // the driver is to announce itself: the network may have forgotten it
  bool running_ = false;  // the back end serves the rings
  bool lost_ = false;     // a back end went away while it served them
  bool started_ = false;  // between DRIVER_OK and reset
  bool paused_ = false;
  u64 features_ = 0;
  u64 epoch_ = 0;
  std::vector<StartedQueue> queues_; // the positions of data queues are valid while !running_
  std::optional<Queue> control_queue_;
  std::string last_complaint_; // so that each is logged once

  // The device's thread.
  std::unique_ptr<EventLoop> loop_;
  Fd retry_timer_;
  std::vector<std::unique_ptr<EventLoop::Watch>> watches_;
  std::map<u16, EventLoop::Watch *> control_watches_; // of queues that may be the control queue
  std::unique_ptr<EventLoop::Watch> backend_watch_;   // that thread's alone
  std::jthread thread_;
};

} // namespace abyme::virtio
