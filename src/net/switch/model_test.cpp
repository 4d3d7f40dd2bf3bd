// The switch against a reference model: random configurations and frames. The model is written for being read, not for
// speed: a frame is taken apart into addresses, tags and rest, and each rule of docs/switch.md is one statement.
#include "net/switch/rig.hpp"
#include <array>
#include <fmt/ranges.h>
#include <gtest/gtest.h>
#include <map>
#include <random>
#include <set>

namespace abyme::net {
namespace {

using namespace rig;
using R = DropReason;

struct ModelPort {
  bool connected = true, uplink = false, tripped = false;
  u32 group = 0;
  VlanSettings vlan;
  SecurityPolicy security;
  LearningRules learning;
  BpduAction bpdu = BpduAction::Pass;
  MacAddress initial, effective;
  bool promiscuous = false;
};

struct Parsed {
  u64 to, from;
  std::vector<Tag> tags;
  Bytes rest;
};

std::optional<Parsed> parse(const Bytes &b) {
  if (b.size() < 14) return std::nullopt;
  Parsed p{MacAddress::load(&b[0]).value, 0, {}, {}};
  for (int i = 6; i < 12; i++) p.from = p.from << 8 | b[i];
  std::size_t at = 12;
  while (at + 6 <= b.size() && (load_be16(&b[at]) == 0x8100 || load_be16(&b[at]) == 0x88a8)) {
    const u16 tci = load_be16(&b[at + 2]);
    p.tags.push_back({static_cast<u16>(tci & 0xfff), load_be16(&b[at]), static_cast<u8>(tci >> 13)});
    at += 4;
  }
  p.rest.assign(b.begin() + static_cast<long>(at), b.end());
  return p;
}

Bytes build(const Parsed &p) {
  Bytes b(12);
  MacAddress{p.to}.store(&b[0]);
  MacAddress{p.from}.store(&b[6]);
  for (const Tag &t : p.tags) {
    const u16 tci = static_cast<u16>(t.priority << 13 | t.vlan);
    for (const int byte : {t.tpid >> 8, t.tpid & 255, tci >> 8, tci & 255}) b.push_back(static_cast<u8>(byte));
  }
  b.insert(b.end(), p.rest.begin(), p.rest.end());
  return b;
}

struct Verdict {
  R in = R::None;
  std::map<unsigned, Bytes> delivered;
  std::map<unsigned, R> refused;
  bool operator==(const Verdict &) const = default;
};

class Model {
public:
  std::vector<ModelPort> ports;
  std::vector<PrivateVlan> pvlans;

  Verdict frame(unsigned from, const Bytes &bytes) {
    Verdict v;
    v.in = take(from, bytes, v);
    return v;
  }
  void forget(unsigned port) {
    std::erase_if(learned_, [&](const auto &e) { return e.second == port; });
  }

private:
  static bool isolated(const PrivateVlan &p, u16 v) { return std::ranges::count(p.isolated, VlanId{v}) > 0; }
  static bool community(const PrivateVlan &p, u16 v) { return std::ranges::count(p.community, VlanId{v}) > 0; }
  u16 domain(u16 vlan) const {
    for (const auto &p : pvlans)
      if (isolated(p, vlan) || community(p, vlan)) return p.primary.value;
    return vlan;
  }
  bool sees(const ModelPort &p, u16 vlan) const {
    if (p.vlan.mode == VlanMode::Trunk) {
      if (p.vlan.native && vlan == p.vlan.native->value) return true;
      if (p.vlan.native && vlan == 0) return false;
      return p.vlan.trunk.has(VlanId{vlan});
    }
    const u16 own = p.vlan.mode == VlanMode::Access ? p.vlan.access.value : 0;
    for (const auto &pv : pvlans) {
      if (own == 0 || domain(own) != pv.primary.value) continue;
      if (domain(vlan) != pv.primary.value) return false;
      if (own == pv.primary.value) return true;               // promiscuous
      if (isolated(pv, own)) return vlan == pv.primary.value; // only promiscuous ports
      return vlan == pv.primary.value || vlan == own;         // its community too
    }
    return vlan == own;
  }

  // Rule 1: which VLAN, or why not. Afterwards p.tags[0], if `tagged`, says that VLAN.
  R classify(const ModelPort &port, Parsed &p, u16 &vlan, bool &tagged) const {
    tagged = false;
    const bool trunk = port.vlan.mode == VlanMode::Trunk;
    if (port.vlan.mode == VlanMode::External) return vlan = 0, R::None;
    const auto untagged = [&]() -> R {
      if (trunk && !port.vlan.native && !port.vlan.trunk.has(kNoVlan)) return R::UntaggedNotAllowed;
      vlan = trunk                                ? (port.vlan.native ? port.vlan.native->value : 0)
             : port.vlan.mode == VlanMode::Access ? port.vlan.access.value
                                                  : 0;
      return R::None;
    };
    if (p.tags.empty()) return untagged();
    if (p.tags[0].vlan == 4095) return R::BadTag;
    if (p.tags[0].vlan == 0) {
      if (const R r = untagged(); r != R::None) return r;
      if (p.tags.size() > 1) return R::DoubleTag;
      p.tags[0].vlan = vlan;
      tagged = true;
      return R::None;
    }
    if (!trunk) return R::TagNotAllowed;
    vlan = p.tags[0].vlan;
    tagged = true;
    const bool allowed = port.vlan.trunk.has(VlanId{vlan}) || (port.vlan.native && port.vlan.native->value == vlan);
    return allowed ? R::None : R::VlanNotAllowed;
  }

  R take(unsigned from, const Bytes &bytes, Verdict &v) {
    ModelPort &in = ports[from];
    if (in.tripped) return R::BpduGuard;
    auto parsed = parse(bytes);
    if (!parsed) return R::Runt;
    Parsed p = *parsed;
    if (p.from == 0 || p.from >> 40 & 1) return R::BadSource;
    u16 vlan = 0;
    bool tagged = false;
    if (const R r = classify(in, p, vlan, tagged); r != R::None) return r;
    if (!in.uplink && !in.security.forged_transmits && p.from != in.effective.value) return R::ForgedTransmit;
    if (p.to == 0x0180c2000000) {
      if (in.bpdu == BpduAction::Filter) return R::BpduFilter;
      if (in.bpdu == BpduAction::Guard) return in.tripped = true, R::BpduGuard;
    }
    if (!learn(from, vlan, p.from)) return R::MacLimit;
    return route(from, p, vlan, tagged, v);
  }

  std::optional<unsigned> owner(u64 mac) const { // of adapters' addresses, whose first owner keeps it
    for (unsigned i = 0; i < ports.size(); i++) {
      const ModelPort &p = ports[i];
      const u64 held = p.security.mac_changes ? p.effective.value : p.initial.value;
      if (p.connected && !p.uplink && held == mac) return i;
    }
    return std::nullopt;
  }
  bool learn(unsigned from, u16 vlan, u64 mac) {
    const ModelPort &in = ports[from];
    if (!in.learning.enabled || (!in.uplink && mac == in.effective.value)) return true;
    if (const auto o = owner(mac); o && sees(ports[*o], domain(vlan))) return true;
    const auto key = std::pair{domain(vlan), mac};
    const auto found = learned_.find(key);
    if (found != learned_.end() && found->second == from) return true;
    const auto held = std::ranges::count_if(learned_, [&](const auto &e) { return e.second == from; });
    if (held >= in.learning.limit) return !in.learning.drop_over_limit;
    learned_[key] = from;
    return true;
  }

  R route(unsigned from, const Parsed &p, u16 vlan, bool tagged, Verdict &v) {
    const auto listens = [&](unsigned i) {
      const ModelPort &l = ports[i];
      return l.connected && !l.tripped && (l.uplink || l.security.mac_changes || l.effective == l.initial) &&
             l.security.promiscuous && l.promiscuous;
    };
    const auto copy = [&](unsigned i, bool to_its_group) {
      if (i == from || v.delivered.contains(i) || v.refused.contains(i) || !listens(i) || !sees(ports[i], vlan)) return;
      const bool own = to_its_group || ports[from].group == ports[i].group;
      if (ports[i].security.scope == SecurityPolicy::Scope::Switch || own) deliver(i, p, vlan, tagged, v);
    };
    if (p.to >> 40 & 1) {
      for (unsigned i = 0; i < ports.size(); i++)
        if (i != from && ports[i].connected && sees(ports[i], vlan)) deliver(i, p, vlan, tagged, v);
      return R::None;
    }
    const auto o = owner(p.to);
    std::optional<unsigned> to;
    if (o && sees(ports[*o], vlan))
      to = o;
    else if (const auto l = learned_.find({domain(vlan), p.to}); l != learned_.end())
      to = l->second;
    else if (o && sends(ports[*o], vlan))
      to = o;
    if (to) {
      if (*to != from) deliver(*to, p, vlan, tagged, v);
      for (unsigned i = 0; i < ports.size(); i++)
        if (i != *to) copy(i, ports[*to].group == ports[i].group);
      return *to == from ? R::SamePort : R::None;
    }
    bool sent = false;
    for (unsigned i = 0; i < ports.size(); i++) {
      if (i == from || !ports[i].connected || !sees(ports[i], vlan) || !ports[i].learning.enabled ||
          !ports[i].learning.flooding)
        continue;
      deliver(i, p, vlan, tagged, v);
      sent = true;
    }
    for (unsigned i = 0; i < ports.size(); i++) copy(i, false);
    return sent ? R::None : R::NoDestination;
  }
  bool sends(const ModelPort &p, u16 vlan) const { // an isolated port's own VLAN: it sends there and does not see it
    if (p.vlan.mode == VlanMode::Trunk) return sees(p, vlan);
    return vlan == (p.vlan.mode == VlanMode::Access ? p.vlan.access.value : 0);
  }

  void deliver(unsigned to, Parsed p, u16 vlan, bool tagged, Verdict &v) {
    const ModelPort &out = ports[to];
    if (!sees(out, vlan)) return void(v.refused[to] = R::VlanNotVisible);
    const bool trunk = out.vlan.mode == VlanMode::Trunk;
    const u16 bare = trunk && out.vlan.native ? out.vlan.native->value : 0;
    const bool leaves_tagged = trunk && vlan != bare;
    if (leaves_tagged && !tagged) p.tags.insert(p.tags.begin(), Tag{vlan});
    if (!leaves_tagged && tagged) p.tags.erase(p.tags.begin());
    if (!leaves_tagged && !p.tags.empty() && out.vlan.mode != VlanMode::External)
      return void(v.refused[to] = R::TagWouldHop);
    if (!out.connected) return void(v.refused[to] = R::Disconnected);
    if (out.tripped) return void(v.refused[to] = R::BpduGuard);
    if (!out.uplink && !out.security.mac_changes && out.effective != out.initial)
      return void(v.refused[to] = R::MacChangeRejected);
    v.delivered[to] = build(p);
  }

  std::map<std::pair<u16, u64>, unsigned> learned_;
};

// One random world: both switches get the same configuration and the same frames.
class World {
public:
  explicit World(u32 seed) : random_(seed), rig_(settings()) {
    rig_.pvlans = pvlans();
    model_.pvlans = pvlans();
    const unsigned count = 2 + pick(7);
    for (unsigned i = 0; i < count; i++) add_port(i);
    rig_.clear();
  }
  void run(int frames) {
    for (int i = 0; i < frames && !testing::Test::HasFailure(); i++) {
      if (pick(20) == 0) change();
      const unsigned from = pick(static_cast<unsigned>(model_.ports.size()));
      if (!model_.ports[from].connected) continue;
      const Bytes b = random_frame(from);
      SCOPED_TRACE(fmt::format("frame {} from port {}: {:02x}", i, from, fmt::join(b, " ")));
      const Verdict expected = model_.frame(from, b);
      EXPECT_EQ(describe(send(from, b)), describe(expected));
    }
  }

private:
  static std::vector<PrivateVlan> pvlans() {
    return {{.primary = VlanId{100}, .isolated = {VlanId{101}}, .community = {VlanId{102}}}};
  }
  static SwitchSettings settings() {
    SwitchSettings s;
    s.private_vlans = pvlans();
    return s;
  }
  unsigned pick(unsigned n) { return static_cast<unsigned>(random_() % n); }
  bool flip() { return random_() & 1; }
  u16 some_vlan() {
    static constexpr u16 kVlans[] = {10, 20, 100, 101, 102};
    return kVlans[pick(5)];
  }
  VlanSettings random_vlan() {
    static constexpr const char *kRanges[] = {"all", "10", "10-20", "0,10,100-102", "20,101"};
    switch (pick(6)) {
    case 0: return no_vlan(flip());
    case 1: return trunk(kRanges[pick(5)]);
    case 2: return trunk(kRanges[pick(5)], some_vlan());
    default: return access(some_vlan());
    }
  }
  void add_port(unsigned i) {
    ModelPort p;
    p.uplink = pick(6) == 0;
    p.group = pick(3);
    p.initial = p.effective = p.uplink ? MacAddress{} : vm(i + 1);
    randomize(p);
    model_.ports.push_back(p);
    (void)rig_.add(p.vlan, p.initial, rules(p));
  }
  void randomize(ModelPort &p) {
    p.vlan = random_vlan();
    p.security = {.promiscuous = flip(),
                  .mac_changes = flip(),
                  .forged_transmits = flip(),
                  .scope = flip() ? SecurityPolicy::Scope::Switch : SecurityPolicy::Scope::PortGroup};
    p.learning = {.enabled = flip(), .flooding = flip(), .drop_over_limit = flip(), .limit = 1 + pick(4)};
    p.bpdu = static_cast<BpduAction>(pick(8) < 6 ? 0 : 1 + pick(2));
  }
  PortRules rules(const ModelPort &p) const {
    return {.group = p.group,
            .vlan = make_vlan_rules(p.vlan, pvlans()),
            .security = p.security,
            .learning = p.learning,
            .bpdu = p.bpdu,
            .uplink = p.uplink};
  }
  static PortIndex index(unsigned i) { return PortIndex{static_cast<u16>(i)}; }

  void change() {
    const unsigned i = pick(static_cast<unsigned>(model_.ports.size()));
    ModelPort &p = model_.ports[i];
    const VlanSettings before = p.vlan;
    switch (pick(4)) {
    case 0: { // rules
      randomize(p);
      const bool forgets =
          !p.learning.enabled || !(make_vlan_rules(before, pvlans()).sends == make_vlan_rules(p.vlan, pvlans()).sends);
      if (forgets) model_.forget(i);
      rig_.sw.set_rules(index(i), rules(p));
      break;
    }
    case 1: // the guest's adapter
      if (p.uplink) break;
      p.effective = flip() ? p.initial : vm(50 + i);
      p.promiscuous = flip();
      rig_.sw.set_adapter(index(i), {.initial = p.initial, .effective = p.effective, .promiscuous = p.promiscuous});
      break;
    case 2: // off and, next time, on again; the announcement goes through both
      p.connected = !p.connected;
      if (!p.connected) {
        model_.forget(i);
        p.effective = p.initial;
        p.promiscuous = false;
      }
      rig_.sw.set_connected(index(i), p.connected);
      if (p.connected && !p.uplink && make_vlan_rules(p.vlan, pvlans()).takes_untagged)
        (void)model_.frame(i, frame(kBroadcast, p.effective));
      break;
    case 3:
      p.tripped = false;
      rig_.sw.clear_guard(index(i));
      break;
    }
    rig_.clear();
  }

  MacAddress random_address(unsigned from) {
    switch (pick(6)) {
    case 0: return vm(50 + pick(8));
    case 1: return vm(200 + pick(6));
    case 2: return model_.ports[from].effective;
    default: return vm(1 + pick(8));
    }
  }
  Bytes random_frame(unsigned from) {
    if (pick(50) == 0) return Bytes(pick(14));
    const MacAddress to = pick(5) == 0 ? kBroadcast : pick(20) == 0 ? MacAddress{0x0180c2000000} : random_address(from);
    const MacAddress source = pick(2)         ? model_.ports[from].effective
                              : pick(40) == 0 ? kBroadcast
                                              : random_address(from);
    std::vector<Tag> tags;
    for (unsigned n = pick(5) < 3 ? pick(2) : pick(3); n--;)
      tags.push_back({.vlan = pick(8) == 0    ? u16{0}
                              : pick(20) == 0 ? u16{4095}
                                              : some_vlan(),
                      .tpid = pick(4) ? kTpidCustomer : kTpidService,
                      .priority = static_cast<u8>(pick(8))});
    return frame(to, source, tags);
  }

  Verdict send(unsigned from, const Bytes &b) {
    std::vector<std::array<u64, kReasonCount>> before;
    for (unsigned i = 0; i < model_.ports.size(); i++) before.push_back(rig_.sw.counters(index(i)).drops);
    rig_.send(index(from), b);
    Verdict v;
    for (unsigned i = 0; i < model_.ports.size(); i++) {
      for (auto &got : rig_.take(index(i))) {
        EXPECT_FALSE(v.delivered.contains(i)) << "twice to one port";
        v.delivered[i] = got;
      }
      for (unsigned r = 0; r < kReasonCount; r++)
        if (rig_.sw.counters(index(i)).drops[r] != before[i][r])
          (i == from && row(R{static_cast<u8>(r)}).entering ? v.in : v.refused[i]) = R{static_cast<u8>(r)};
    }
    return v;
  }
  static std::string describe(const Verdict &v) {
    std::string out = fmt::format("in: {}\n", name(v.in));
    for (const auto &[port, bytes] : v.delivered) out += fmt::format("to {}: {:02x}\n", port, fmt::join(bytes, " "));
    for (const auto &[port, reason] : v.refused) out += fmt::format("not to {}: {}\n", port, name(reason));
    return out;
  }

  std::mt19937 random_;
  Rig rig_;
  Model model_;
};

TEST(Model, RandomWorldsAgree) {
  constexpr u32 kWorlds = 400;
  for (u32 seed = 1; seed <= kWorlds && !HasFailure(); seed++) {
    SCOPED_TRACE(fmt::format("world {}", seed));
    World(seed).run(150);
  }
}

} // namespace
} // namespace abyme::net
