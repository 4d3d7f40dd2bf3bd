#pragma once
#include "net/switch/switch.hpp"
#include <algorithm>
#include <string>

// A switch with recording sinks, for tests.
namespace abyme::net::rig {

using Bytes = std::vector<u8>;

class RecordingSink final : public PortSink {
public:
  void transmit(std::span<Egress> frames) override {
    for (Egress &e : frames) {
      e.outcome = refuse;
      if (refuse != DropReason::None) continue;
      Bytes bytes(wire_length(*e.frame, e.edit));
      copy_wire(*e.frame, e.edit, bytes.data());
      got.push_back(std::move(bytes));
    }
  }
  std::vector<Bytes> got;
  DropReason refuse = DropReason::None;
};

class RecordingEvents final : public SwitchEvents {
public:
  void dropped(PortIndex, DropReason reason, const Frame &) override { drops.push_back(reason); }
  void flapping(FdbKey, PortIndex, PortIndex) override { flaps++; }
  void duplicate_address(MacAddress, PortIndex, PortIndex) override { duplicates++; }
  void guard_tripped(PortIndex) override { guards++; }
  std::vector<DropReason> drops;
  int flaps = 0, duplicates = 0, guards = 0;
};

struct Tag {
  u16 vlan;
  u16 tpid = kTpidCustomer;
  u8 priority = 0;
};

[[nodiscard]] inline Bytes frame(MacAddress to, MacAddress from, std::vector<Tag> tags = {}, std::size_t size = 60) {
  Bytes b(14);
  to.store(b.data());
  from.store(b.data() + 6);
  b[12] = 0x88, b[13] = 0xb5; // a local experiment's type (802 §9.2.4)
  for (std::size_t i = 0; i < tags.size(); i++) {
    u8 tag[4];
    store_be16(tag, tags[i].tpid);
    store_be16(tag + 2, static_cast<u16>(tags[i].priority << 13 | tags[i].vlan));
    b.insert(b.begin() + static_cast<long>(12 + 4 * i), tag, tag + 4);
  }
  if (b.size() < size) b.resize(size, 0x5a);
  return b;
}

class Rig {
public:
  explicit Rig(const SwitchSettings &settings = {}) : sw(settings, clock, 12345, &events) {}

  PortIndex add(const VlanSettings &vlan, MacAddress mac, const PortRules &rules = {}) {
    PortRules r = rules;
    r.vlan = make_vlan_rules(vlan, pvlans);
    sinks.push_back(std::make_unique<RecordingSink>());
    const PortIndex p = sw.attach(r, mac, *sinks.back());
    sw.set_connected(p, true);
    clear();
    return p;
  }
  void clear() {
    for (auto &s : sinks) s->got.clear();
  }
  void send(PortIndex from, const Bytes &bytes) { send_all(from, {bytes}); }
  void send_all(PortIndex from, const std::vector<Bytes> &all) {
    FrameBatch batch;
    for (const Bytes &b : all) (void)batch.add(b);
    sw.input(from, batch.frames());
  }
  [[nodiscard]] RecordingSink &sink(PortIndex p) { return *sinks[to_index(p)]; }
  [[nodiscard]] std::vector<Bytes> take(PortIndex p) { return std::exchange(sink(p).got, {}); }
  [[nodiscard]] u64 drops(PortIndex p, DropReason r) const { return sw.counters(p).drops[static_cast<unsigned>(r)]; }

  FakeClock clock;
  RecordingEvents events;
  std::vector<PrivateVlan> pvlans;
  Switch sw;
  std::vector<std::unique_ptr<RecordingSink>> sinks;
};

[[nodiscard]] inline VlanSettings access(u16 vlan) {
  VlanSettings s;
  s.mode = VlanMode::Access;
  s.access = VlanId{vlan};
  return s;
}
[[nodiscard]] inline VlanSettings no_vlan(bool external = false) {
  VlanSettings s;
  s.mode = external ? VlanMode::External : VlanMode::None;
  return s;
}
[[nodiscard]] inline VlanSettings trunk(const char *range, std::optional<u16> native = {}) {
  VlanSettings s;
  s.mode = VlanMode::Trunk;
  s.trunk = *parse_vlans(range);
  if (native) s.native = VlanId{*native};
  return s;
}
[[nodiscard]] inline MacAddress vm(u64 n) { return {u64{0x5254'0000'0000} + n}; }

} // namespace abyme::net::rig
