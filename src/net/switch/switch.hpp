#pragma once
#include "base/clock.hpp"
#include "net/fdb/fdb.hpp"
#include "net/fdb/pins.hpp"
#include "net/switch/flaps.hpp"
#include "net/switch/observer.hpp"
#include "net/switch/port.hpp"
#include "net/switch/snooping.hpp"
#include <memory>
#include <optional>
#include <vector>

namespace abyme::net {

struct SwitchSettings {
  u32 mtu = 9000; // of the payload behind the Ethernet header and its tags
  u32 table_size = 131072;
  std::optional<u32> ageing_seconds = 300; // nothing: never
  bool snooping = false;
  std::vector<PrivateVlan> private_vlans;
};

// A learning virtual switch. Ports are attached with their rules and a sink; input() takes a burst of one port's frames
// through classification, policy, learning, lookup and delivery. One thread owns it.
class Switch {
public:
  // `secret` seeds the address table's hash. `events` may be null; it and the clock outlive the switch.
  Switch(const SwitchSettings &settings, const Clock &clock, u64 secret, SwitchEvents *events);
  ~Switch();

  // The port is disconnected until set_connected(). `sink` outlives the port. kNoPort when all kMaxPorts are taken.
  [[nodiscard]] PortIndex attach(const PortRules &rules, MacAddress initial, PortSink &sink);
  void detach(PortIndex port);
  void set_rules(PortIndex port, const PortRules &rules);
  void set_settings(const SwitchSettings &settings); // all but the table's size, which is for life
  void set_connected(PortIndex port, bool connected);
  void set_adapter(PortIndex port, const Adapter &adapter);
  void clear_guard(PortIndex port);

  // Frames that came in through the port. Tags and offloads in the frames may be rewritten.
  void input(PortIndex from, std::span<Frame> frames);
  // A frame that a sink took and lost later, or one that never reached input().
  void account_drop(PortIndex port, DropReason reason, const Frame &frame);
  // Tells the other switches where the port's adapter is: a RARP from its address, as ESXi's "notify switches".
  void announce(PortIndex port, MacAddress mac);

  // Ages addresses and groups; once a second.
  void tick();

  void watch(PortIndex port, bool on);
  void set_observer(FrameObserver *observer) { observer_ = observer; }

  [[nodiscard]] const PortCounters &counters(PortIndex port) const { return at(port).counters; }
  [[nodiscard]] const Adapter &adapter(PortIndex port) const { return at(port).adapter; }
  [[nodiscard]] bool connected(PortIndex port) const { return at(port).connected; }
  [[nodiscard]] bool guard_tripped(PortIndex port) const { return at(port).guard_tripped; }
  [[nodiscard]] const Fdb &fdb() const { return fdb_; }
  [[nodiscard]] const Snooping &snooping() const { return snooping_; }
  void forget_learned(PortIndex port) { fdb_.forget(port); }

private:
  // What delivery of a frame reads and writes comes first and fills one cache line.
  struct alignas(64) Port {
    bool connected = false, receives = false, guard_tripped = false, watched = false;
    bool listens = false;             // promiscuous: accepted and asked for
    VlanId plain_vlan{kReservedVlan}; // its frames, untagged as they come, leave as they are; reserved: none's
    PortSink *sink = nullptr;
    std::vector<Egress> out;
    PortCounters counters;
    PortRules rules;
    Adapter adapter;
    u32 storm_second = 0, storm_count = 0;
    std::array<u8, kReasonCount> told{};
  };
  struct Burst; // the frames under way and what is known of each

  [[nodiscard]] Port &at(PortIndex p) { return *ports_[to_index(p)]; }
  [[nodiscard]] const Port &at(PortIndex p) const { return *ports_[to_index(p)]; }
  [[nodiscard]] u32 second() const { return static_cast<u32>(clock_.now() / 1'000'000'000) + 1; }

  void input_burst(PortIndex from, std::span<Frame> frames);
  void adopt_address(PortIndex from, const Frame &frame);
  [[nodiscard]] DropReason admit(Port &port, Frame &frame);
  [[nodiscard]] DropReason admit_bpdu(PortIndex from, Port &port, const Frame &frame);
  [[nodiscard]] bool learn(PortIndex from, Port &port, FdbKey key);
  [[nodiscard]] PortIndex locate(const Frame &frame, FdbKey key, Fdb::Bucket bucket) const;
  [[nodiscard]] DropReason forward(PortIndex from, Port &port, Frame &frame, FdbKey key, Fdb::Bucket bucket);
  [[nodiscard]] DropReason forward_to_all(PortIndex from, Port &port, Frame &frame, bool unknown_unicast);
  void forward_to_group(PortIndex from, Frame &frame, const Snooping::Ports &members);
  void copy_to_listeners(PortIndex from, PortIndex to, const Frame &frame);
  void copy_to_listener(PortIndex from, PortIndex listener, const Frame &frame, bool to_its_group);
  [[nodiscard]] bool within_storm_limit(Port &port);
  void deliver(PortIndex to, const Frame &frame);
  void refuse(PortIndex to, DropReason reason, const Frame &frame); // what deliver() cannot
  void flush();
  void drop(PortIndex port, DropReason reason, const Frame &frame);
  void observe(const FrameEvent &event);
  [[nodiscard]] const std::vector<PortIndex> &members(VlanId vlan);
  void reconsider(PortIndex port); // after any change: what it may receive, its pinned address, the lists
  void pin(PortIndex port);

  SwitchSettings settings_;
  const Clock &clock_;
  SwitchEvents *events_;
  FrameObserver *observer_ = nullptr;
  std::vector<std::unique_ptr<Port>> ports_; // by index; empty where none is
  Fdb fdb_;
  PinTable pins_;
  LearningDomains domains_;
  Snooping snooping_;
  FlapDetector flaps_;
  u32 second_ = 0; // of the burst under way
  std::vector<PortIndex> listeners_;
  std::vector<PortIndex> touched_; // the first touched_count_ have frames in `out`
  u32 touched_count_ = 0;
  std::vector<std::vector<PortIndex>> members_; // by VLAN: ports that see it; filled when asked for
  VlanSet members_known_;
};

} // namespace abyme::net
