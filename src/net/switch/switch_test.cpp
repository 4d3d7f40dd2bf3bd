#include "net/switch/rig.hpp"
#include <gtest/gtest.h>

namespace abyme::net {
namespace {

using namespace rig;
using R = DropReason;

PortRules learning() {
  PortRules r;
  r.learning.enabled = true;
  r.security.forged_transmits = true;
  return r;
}

TEST(Switch, DeliversToTheAdapterThatHasTheAddressAndToNobodyElse) {
  Rig rig;
  const auto a = rig.add(access(10), vm(1)), b = rig.add(access(10), vm(2)), c = rig.add(access(10), vm(3));
  const Bytes f = frame(vm(2), vm(1));
  rig.send(a, f);
  EXPECT_EQ(rig.take(b), std::vector<Bytes>{f});
  EXPECT_TRUE(rig.take(c).empty());
  EXPECT_EQ(rig.sw.counters(a).in_frames, 2u); // with the announcement of its address
  EXPECT_EQ(rig.sw.counters(b).out_frames, 2u + 0u);
}

TEST(Switch, KeepsVlansApartForOneAddressInTwo) {
  Rig rig;
  const auto a = rig.add(access(10), vm(1)), b = rig.add(access(20), vm(2));
  rig.send(a, frame(vm(2), vm(1)));
  rig.send(a, frame(kBroadcast, vm(1)));
  EXPECT_TRUE(rig.take(b).empty());
  EXPECT_EQ(rig.drops(a, R::NoDestination), 1u);
}

TEST(Switch, ForgedTransmitsAreHeldAgainstTheEffectiveAddress) {
  Rig rig;
  PortRules changes;
  changes.security.mac_changes = true;
  const auto a = rig.add(access(10), vm(1), changes), b = rig.add(access(10), vm(2));
  rig.sw.set_adapter(a, {.initial = vm(1), .effective = vm(77)});
  rig.send(a, frame(vm(2), vm(1)));
  EXPECT_EQ(rig.drops(a, R::ForgedTransmit), 1u);
  rig.send(a, frame(vm(2), vm(77)));
  EXPECT_EQ(rig.take(b).size(), 1u);
  rig.send(b, frame(vm(77), vm(2)));
  EXPECT_EQ(rig.take(a).size(), 1u);
}

TEST(Switch, AChangedAddressUnderRejectReceivesNothingUntilRestored) {
  Rig rig;
  const auto a = rig.add(access(10), vm(1)), b = rig.add(access(10), vm(2));
  rig.sw.set_adapter(a, {.initial = vm(1), .effective = vm(77)});
  rig.send(b, frame(vm(1), vm(2)));
  rig.send(b, frame(kBroadcast, vm(2)));
  EXPECT_TRUE(rig.take(a).empty());
  EXPECT_EQ(rig.drops(a, R::MacChangeRejected), 2u);
  rig.send(b, frame(vm(77), vm(2)));
  EXPECT_EQ(rig.drops(b, R::NoDestination), 1u);
  rig.sw.set_adapter(a, {.initial = vm(1), .effective = vm(1)});
  rig.send(b, frame(vm(1), vm(2)));
  EXPECT_EQ(rig.take(a).size(), 1u);
}

TEST(Switch, PromiscuousNeedsThePolicyAndTheGuestsWish) {
  Rig rig;
  PortRules accept;
  accept.security.promiscuous = true;
  const auto a = rig.add(access(10), vm(1)), b = rig.add(access(10), vm(2)), l = rig.add(access(10), vm(3), accept);
  const auto other = rig.add(access(20), vm(4), accept);
  rig.send(a, frame(vm(2), vm(1)));
  EXPECT_TRUE(rig.take(l).empty());
  rig.sw.set_adapter(l, {.initial = vm(3), .effective = vm(3), .promiscuous = true});
  rig.sw.set_adapter(other, {.initial = vm(4), .effective = vm(4), .promiscuous = true});
  rig.sw.set_adapter(b, {.initial = vm(2), .effective = vm(2), .promiscuous = true}); // its policy rejects
  rig.clear();
  rig.send(a, frame(vm(2), vm(1)));
  rig.send(a, frame(vm(99), vm(1)));
  EXPECT_EQ(rig.take(l).size(), 2u);
  EXPECT_EQ(rig.take(b).size(), 1u);
  EXPECT_TRUE(rig.take(other).empty());
  EXPECT_EQ(rig.sw.counters(l).promiscuous, 2u);
}

TEST(Switch, PortGroupScopeShowsOnlyItsOwnGroup) {
  Rig rig;
  PortRules g1, g2, listener;
  g1.group = 1, g2.group = 2, listener.group = 2;
  listener.security = {.promiscuous = true, .scope = SecurityPolicy::Scope::PortGroup};
  const auto a = rig.add(access(10), vm(1), g1);
  (void)rig.add(access(10), vm(2), g1);
  (void)rig.add(access(10), vm(3), g2);
  const auto l = rig.add(access(10), vm(4), listener);
  rig.sw.set_adapter(l, {.initial = vm(4), .effective = vm(4), .promiscuous = true});
  rig.send(a, frame(vm(2), vm(1)));
  EXPECT_TRUE(rig.take(l).empty());
  rig.send(a, frame(vm(3), vm(1)));
  EXPECT_EQ(rig.take(l).size(), 1u);
}

TEST(Switch, GuestTaggingSeesAndSendsTags) {
  Rig rig;
  const auto v = rig.add(trunk("all"), vm(1)), a = rig.add(access(10), vm(2)), n = rig.add(no_vlan(), vm(3));
  rig.send(a, frame(kBroadcast, vm(2)));
  EXPECT_EQ(rig.take(v), std::vector<Bytes>{frame(kBroadcast, vm(2), {{10}}, 64)});
  rig.send(v, frame(vm(2), vm(1), {{10}}, 64));
  EXPECT_EQ(rig.take(a), std::vector<Bytes>{frame(vm(2), vm(1))});
  rig.send(v, frame(vm(3), vm(1)));
  EXPECT_EQ(rig.take(n).size(), 1u);
}

TEST(Switch, NoVlanPassesTagsOnlyWithExternalTagging) {
  Rig rig;
  const auto n = rig.add(no_vlan(), vm(1)), e = rig.add(no_vlan(true), vm(2)), e2 = rig.add(no_vlan(true), vm(3));
  const auto t = rig.add(trunk("all"), vm(4));
  rig.send(n, frame(vm(2), vm(1), {{5}}));
  EXPECT_EQ(rig.drops(n, R::TagNotAllowed), 1u);
  const Bytes tagged = frame(kBroadcast, vm(2), {{5}});
  rig.send(e, tagged);
  EXPECT_EQ(rig.take(e2), std::vector<Bytes>{tagged});
  EXPECT_TRUE(rig.take(n).empty());
  EXPECT_TRUE(rig.take(t).empty()); // it would be believed to be in VLAN 5
  EXPECT_EQ(rig.drops(t, R::TagWouldHop), 1u);
}

TEST(Switch, ADoubleTagCannotHop) {
  Rig rig;
  const auto t = rig.add(trunk("10,20"), vm(1)), native = rig.add(trunk("10-20", 10), vm(2));
  const auto a = rig.add(access(10), vm(3)), victim = rig.add(access(20), vm(4));
  rig.send(t, frame(kBroadcast, vm(1), {{10}, {20}}));
  EXPECT_TRUE(rig.take(native).empty());
  EXPECT_TRUE(rig.take(a).empty());
  EXPECT_TRUE(rig.take(victim).empty());
  EXPECT_EQ(rig.drops(native, R::TagWouldHop), 1u);
  EXPECT_EQ(rig.drops(a, R::TagWouldHop), 1u);
  rig.send(a, frame(kBroadcast, vm(3), {{0}, {20}}));
  EXPECT_EQ(rig.drops(a, R::DoubleTag), 1u);
}

TEST(Switch, TrunkAcceptsItsRangeAndNativeOnly) {
  Rig rig;
  const auto t = rig.add(trunk("10-19"), vm(1)), n = rig.add(trunk("10-19", 12), vm(2)), a = rig.add(access(12), vm(3));
  rig.send(t, frame(kBroadcast, vm(1)));
  EXPECT_EQ(rig.drops(t, R::UntaggedNotAllowed), 1u);
  rig.send(t, frame(kBroadcast, vm(1), {{20}}));
  EXPECT_EQ(rig.drops(t, R::VlanNotAllowed), 1u);
  rig.send(t, frame(kBroadcast, vm(1), {{4095}}));
  EXPECT_EQ(rig.drops(t, R::BadTag), 1u);
  rig.clear();
  rig.send(n, frame(kBroadcast, vm(2)));
  EXPECT_EQ(rig.take(a).size(), 1u);
  EXPECT_EQ(rig.take(t), std::vector<Bytes>{frame(kBroadcast, vm(2), {{12}}, 64)});
}

TEST(Switch, APriorityTagCountsAsUntaggedAndKeepsItsPriority) {
  Rig rig;
  const auto a = rig.add(access(10), vm(1)), b = rig.add(access(10), vm(2)), t = rig.add(trunk("all"), vm(3));
  rig.send(a, frame(kBroadcast, vm(1), {{.vlan = 0, .priority = 5}}, 64));
  EXPECT_EQ(rig.take(b), std::vector<Bytes>{frame(kBroadcast, vm(1))});
  EXPECT_EQ(rig.take(t), std::vector<Bytes>{frame(kBroadcast, vm(1), {{.vlan = 10, .priority = 5}}, 64)});
}

TEST(Switch, PrivateVlans) {
  const PrivateVlan pvlan{.primary = VlanId{100}, .isolated = {VlanId{101}}, .community = {VlanId{102}, VlanId{103}}};
  SwitchSettings settings;
  settings.private_vlans = {pvlan};
  Rig rig(settings);
  rig.pvlans = {pvlan};
  const auto p = rig.add(access(100), vm(1)), i1 = rig.add(access(101), vm(2)), i2 = rig.add(access(101), vm(3));
  const auto c1 = rig.add(access(102), vm(4)), c2 = rig.add(access(102), vm(5)), d = rig.add(access(103), vm(6));
  const auto reached = [&](PortIndex from, u64 source) {
    rig.send(from, frame(kBroadcast, vm(source)));
    std::string out;
    for (const auto port : {p, i1, i2, c1, c2, d}) out += rig.take(port).empty() ? '-' : 'x';
    return out;
  };
  EXPECT_EQ(reached(p, 1), "-xxxxx");
  EXPECT_EQ(reached(i1, 2), "x-----");
  EXPECT_EQ(reached(c1, 4), "x---x-");
  EXPECT_EQ(reached(d, 6), "x-----");
  rig.send(i1, frame(vm(3), vm(2)));
  EXPECT_TRUE(rig.take(i2).empty());
  rig.send(i1, frame(vm(1), vm(2)));
  EXPECT_EQ(rig.take(p).size(), 1u);
  rig.send(p, frame(vm(2), vm(1)));
  EXPECT_EQ(rig.take(i1).size(), 1u);
}

TEST(Switch, NestedAddressesAreLearnedWhereLearningIsOn) {
  Rig rig;
  const auto a = rig.add(access(10), vm(1), learning()), b = rig.add(access(10), vm(2), learning());
  const auto c = rig.add(access(10), vm(3), learning()), plain = rig.add(access(10), vm(4));
  rig.send(a, frame(vm(99), vm(50))); // unknown: only to ports that learn and flood
  EXPECT_EQ(rig.take(b).size(), 1u);
  EXPECT_EQ(rig.take(c).size(), 1u);
  EXPECT_TRUE(rig.take(plain).empty());
  rig.send(b, frame(vm(50), vm(99)));
  EXPECT_EQ(rig.take(a).size(), 1u);
  EXPECT_TRUE(rig.take(c).empty());
  EXPECT_EQ(rig.sw.fdb().learned(), 2u);
  rig.clock.advance(302'000'000'000);
  rig.sw.tick();
  EXPECT_EQ(rig.sw.fdb().learned(), 0u);
}

TEST(Switch, AConnectedAdaptersAddressIsNeverLearnedElsewhere) {
  Rig rig;
  const auto a = rig.add(access(10), vm(1)), thief = rig.add(access(10), vm(2), learning());
  rig.send(thief, frame(kBroadcast, vm(1)));
  EXPECT_EQ(rig.sw.counters(thief).pinned_conflicts, 1u);
  rig.clear();
  rig.send(thief, frame(vm(1), vm(2)));
  EXPECT_EQ(rig.take(a).size(), 1u);
  rig.sw.set_connected(a, false);
  rig.send(thief, frame(kBroadcast, vm(1)));
  EXPECT_EQ(rig.sw.fdb().learned(), 1u);
}

TEST(Switch, LimitOfAPortAllowsOrDrops) {
  Rig rig;
  PortRules allow = learning(), drop = learning();
  allow.learning.limit = drop.learning.limit = 2;
  drop.learning.drop_over_limit = true;
  const auto a = rig.add(access(10), vm(1), allow), d = rig.add(access(10), vm(2), drop),
             c = rig.add(access(10), vm(3));
  for (u64 i = 100; i < 105; i++) rig.send(a, frame(vm(3), vm(i)));
  EXPECT_EQ(rig.take(c).size(), 5u);
  for (u64 i = 200; i < 205; i++) rig.send(d, frame(vm(3), vm(i)));
  EXPECT_EQ(rig.take(c).size(), 2u);
  EXPECT_EQ(rig.drops(d, R::MacLimit), 3u);
}

TEST(Switch, SaysWhenAnAddressFlaps) {
  Rig rig;
  const auto a = rig.add(access(10), vm(1), learning()), b = rig.add(access(10), vm(2), learning());
  for (int i = 0; i < 10; i++) rig.send(i % 2 ? a : b, frame(kBroadcast, vm(50)));
  EXPECT_EQ(rig.events.flaps, 1);
  EXPECT_EQ(rig.sw.counters(a).moves_in + rig.sw.counters(b).moves_in, 9u);
}

TEST(Switch, StormLimitCountsFramesForEveryone) {
  Rig rig;
  PortRules limited;
  limited.storm_limit = 3;
  const auto a = rig.add(access(10), vm(1)), b = rig.add(access(10), vm(2), limited);
  rig.clock.advance(1'000'000'000);
  for (int i = 0; i < 5; i++) rig.send(b, frame(kBroadcast, vm(2)));
  EXPECT_EQ(rig.take(a).size(), 3u);
  EXPECT_EQ(rig.drops(b, R::StormLimit), 2u);
  rig.clock.advance(1'000'000'000);
  rig.send(b, frame(kBroadcast, vm(2)));
  EXPECT_EQ(rig.take(a).size(), 1u);
}

TEST(Switch, BpduFilterAndGuard) {
  Rig rig;
  PortRules filter, guard;
  filter.bpdu = BpduAction::Filter;
  guard.bpdu = BpduAction::Guard;
  const auto f = rig.add(access(10), vm(1), filter), g = rig.add(access(10), vm(2), guard),
             c = rig.add(access(10), vm(3));
  const MacAddress bpdu{0x0180'c200'0000};
  rig.send(f, frame(bpdu, vm(1)));
  rig.send(g, frame(bpdu, vm(2)));
  rig.send(g, frame(vm(3), vm(2)));
  EXPECT_TRUE(rig.take(c).empty());
  EXPECT_EQ(rig.drops(f, R::BpduFilter), 1u);
  EXPECT_EQ(rig.drops(g, R::BpduGuard), 2u);
  EXPECT_TRUE(rig.sw.guard_tripped(g));
  rig.sw.clear_guard(g);
  rig.send(g, frame(vm(3), vm(2)));
  EXPECT_EQ(rig.take(c).size(), 1u);
}

TEST(Switch, MalformedFramesAreCountedNotForwarded) {
  Rig rig;
  const auto a = rig.add(trunk("all"), vm(1)), b = rig.add(trunk("all"), vm(2));
  rig.send(a, Bytes(13));
  Bytes cut = frame(vm(2), vm(1), {{5}});
  cut.resize(16);
  rig.send(a, cut);
  rig.send(a, frame(vm(2), kBroadcast));
  rig.send(a, frame(vm(2), {}));
  rig.send(a, frame(vm(2), vm(1), {}, 9100));
  EXPECT_TRUE(rig.take(b).empty());
  EXPECT_EQ(rig.drops(a, R::Runt), 2u);
  EXPECT_EQ(rig.drops(a, R::BadSource), 2u);
  EXPECT_EQ(rig.drops(a, R::TooLong), 1u);
}

TEST(Switch, ReturningGuestIsAnnounced) {
  Rig rig;
  const auto a = rig.add(access(10), vm(1)), up = rig.add(trunk("all"), {}, {.uplink = true});
  rig.sw.set_connected(a, false);
  rig.sw.set_connected(a, true);
  const auto got = rig.take(up);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(MacAddress::load(&got[0][6]), vm(1));
  EXPECT_EQ(load_be16(&got[0][14]), 10);
  EXPECT_EQ(load_be16(&got[0][16]), 0x8035);
}

TEST(Switch, ARuleChangeTakesEffectAtOnceAndKeepsThePort) {
  Rig rig;
  const auto a = rig.add(access(10), vm(1)), b = rig.add(access(10), vm(2));
  PortRules r;
  r.vlan = make_vlan_rules(access(20), {});
  rig.sw.set_rules(b, r);
  rig.send(a, frame(vm(2), vm(1)));
  EXPECT_TRUE(rig.take(b).empty());
  r.vlan = make_vlan_rules(access(10), {});
  rig.sw.set_rules(b, r);
  rig.send(a, frame(vm(2), vm(1)));
  EXPECT_EQ(rig.take(b).size(), 1u);
}

TEST(Switch, NamesTwoAdaptersWithOneAddress) {
  Rig rig;
  (void)rig.add(access(10), vm(1));
  (void)rig.add(access(10), vm(1));
  EXPECT_GE(rig.events.duplicates, 1);
}

Bytes igmp(MacAddress from, u8 type, u32 group) {
  Bytes f = frame({u64{0x0100'5e00'0000} | (group & 0x7f'ffff)}, from, {}, 60);
  store_be16(&f[12], 0x0800);
  f[14] = 0x45;
  store_be16(&f[16], 28);
  f[23] = 2;
  f[34] = type;
  store_be32(&f[38], group);
  return f;
}

TEST(Snooping, DataGoesToMembersAndRouters) {
  SwitchSettings settings;
  settings.snooping = true;
  Rig rig(settings);
  const auto s = rig.add(access(10), vm(1)), m = rig.add(access(10), vm(2)), r = rig.add(access(10), vm(3)),
             n = rig.add(access(10), vm(4));
  constexpr u32 kGroup = 0xefc80101; // 239.200.1.1
  const auto data = [&] {
    Bytes f = igmp(vm(1), 0, kGroup);
    f[23] = 17;
    return f;
  };
  rig.send(s, data()); // nobody known: to everybody
  EXPECT_EQ(rig.take(n).size(), 1u);
  rig.clear();
  rig.send(r, igmp(vm(3), 0x11, 0xe0000001));
  rig.send(m, igmp(vm(2), 0x16, kGroup));
  EXPECT_EQ(rig.take(r).size(), 1u); // the report
  rig.clear();
  rig.send(s, data());
  EXPECT_EQ(rig.take(m).size(), 1u);
  EXPECT_EQ(rig.take(r).size(), 1u);
  EXPECT_TRUE(rig.take(n).empty());
  rig.send(m, igmp(vm(2), 0x17, kGroup));
  rig.clock.advance(3'000'000'000);
  rig.sw.tick();
  rig.clear();
  rig.send(s, data());
  EXPECT_TRUE(rig.take(m).empty());
}

// A report of one group, as IGMPv3 and MLDv2 have them: record type 2 excludes nothing (joins), type 3 includes nothing
// (leaves).
Bytes igmp3(MacAddress from, u8 type, u32 group) {
  Bytes f = igmp(from, 0x22, 0);
  store_be16(&f[16], 36);
  store_be16(&f[40], 1);
  std::fill(f.begin() + 42, f.end(), u8{0});
  f[42] = type;
  store_be32(&f[46], group);
  return f;
}

Bytes mld2(MacAddress from, u8 type, u32 group) {
  Bytes f = frame({0x3333'0000'0016}, from, {}, 100);
  std::fill(f.begin() + 14, f.end(), u8{0});
  store_be16(&f[12], 0x86dd);
  store_be16(&f[18], 36);
  f[20] = 0, f[54] = 58; // hop-by-hop, then ICMPv6
  f[62] = 143;
  store_be16(&f[68], 1);
  f[70] = type;
  f[74] = 0xff, f[75] = 0x05;
  store_be32(&f[86], group);
  return f;
}

TEST(Snooping, Version3ReportsJoinAndLeave) {
  SwitchSettings settings;
  settings.snooping = true;
  Rig rig(settings);
  const auto s = rig.add(access(10), vm(1)), m = rig.add(access(10), vm(2)), n = rig.add(access(10), vm(3));
  const auto reached = [&](MacAddress group, u16 type) {
    Bytes f = frame(group, vm(1));
    store_be16(&f[12], type);
    rig.clear();
    rig.send(s, f);
    return std::pair(rig.take(m).size(), rig.take(n).size());
  };
  constexpr MacAddress kGroup4{0x0100'5e48'0101}, kGroup6{0x3333'0000'0077};
  rig.send(m, igmp3(vm(2), 2, 0xefc80101));
  rig.send(m, mld2(vm(2), 2, 0x77));
  EXPECT_EQ(rig.sw.snooping().groups(), 2u);
  EXPECT_EQ(reached(kGroup4, 0x0800), (std::pair<std::size_t, std::size_t>(1, 0)));
  EXPECT_EQ(reached(kGroup6, 0x86dd), (std::pair<std::size_t, std::size_t>(1, 0)));
  rig.send(m, igmp3(vm(2), 3, 0xefc80101));
  rig.send(m, mld2(vm(2), 3, 0x77));
  rig.clock.advance(3'000'000'000);
  rig.sw.tick();
  EXPECT_EQ(rig.sw.snooping().groups(), 0u);
}

} // namespace
} // namespace abyme::net
