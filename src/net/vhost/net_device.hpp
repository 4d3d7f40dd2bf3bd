#pragma once
#include "net/vhost/message.hpp"
#include "net/vhost/net_ring.hpp"

namespace abyme::net {

// What a vhost-user network device needs of whoever runs it.
class NetDeviceOwner {
public:
  virtual ~NetDeviceOwner() = default;
  virtual void kick_changed(unsigned queue) = 0; // its kick descriptor is another one, or none
  virtual void queues_changed() = 0;             // some queue began or ceased to run
  virtual void rarp_asked(MacAddress mac) = 0;   // the guest arrived here by migration
};

// The back-end's side of the vhost-user protocol for one network device: takes messages, keeps what was agreed and the
// queues. Knows nothing of sockets and threads.
class VhostNetDevice {
public:
  static constexpr unsigned kMaxPairs = 16;
  VhostNetDevice(unsigned pairs, NetDeviceOwner &owner);

  // The reply, if there is one. An Error ends the connection.
  [[nodiscard]] Result<std::optional<VhostMessage>> handle(VhostMessage message);

  struct Queue {
    u16 size = 0;
    RingSetup setup{};
    bool addressed = false, enabled = false, kickable = false, running = false;
    u32 base = 0;
    Fd kick, call, error;
    NetRing ring;
  };
  [[nodiscard]] Queue &queue(unsigned i) { return queues_[i]; }
  [[nodiscard]] unsigned queue_count() const { return static_cast<unsigned>(queues_.size()); }
  [[nodiscard]] const GuestMemory &memory() const { return memory_; }
  [[nodiscard]] const NetFeatures &net() const { return net_; }
  [[nodiscard]] u64 features() const { return features_; }
  [[nodiscard]] bool packed() const;
  [[nodiscard]] u16 mtu() const { return mtu_; }
  void stop(unsigned queue); // ours to stop it: it broke

private:
  using Reply = Result<std::optional<VhostMessage>>;
  [[nodiscard]] Reply dispatch(VhostMessage &m);
  [[nodiscard]] Result<void> set_features(const VhostMessage &m);
  [[nodiscard]] Result<void> set_memory(VhostMessage &m);
  [[nodiscard]] Result<void> add_memory(VhostMessage &m);
  [[nodiscard]] Result<void> remove_memory(const VhostMessage &m);
  [[nodiscard]] Result<void> set_vring(const VhostMessage &m);
  [[nodiscard]] Result<void> set_vring_address(const VhostMessage &m);
  [[nodiscard]] Result<void> set_vring_fd(VhostMessage &m);
  [[nodiscard]] Reply get_vring_base(const VhostMessage &m);
  [[nodiscard]] Result<Queue *> queue_of(u64 index);
  void start_ready();
  [[nodiscard]] bool try_start(Queue &q);
  void reset();

  NetDeviceOwner &owner_;
  u64 features_ = 0, protocol_features_ = 0;
  u8 status_ = 0;
  u16 mtu_ = 0;
  NetFeatures net_;
  GuestMemory memory_;
  std::vector<Queue> queues_;
};

} // namespace abyme::net
