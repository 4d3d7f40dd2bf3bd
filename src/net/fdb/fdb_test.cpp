#include "net/fdb/fdb.hpp"
#include "net/fdb/pins.hpp"
#include <gtest/gtest.h>
#include <list>
#include <map>
#include <random>

namespace abyme::net {
namespace {

constexpr PortIndex kA{1}, kB{2}, kC{3};
constexpr u32 kManyPerPort = 4096;

FdbKey key(u64 n, u16 vlan = 1) { return {VlanId{vlan}, MacAddress{0x0200'0000'0000 + n}}; }

TEST(Fdb, FindsWhatItLearnedPerVlan) {
  Fdb fdb(100, 42);
  EXPECT_EQ(fdb.learn(key(1, 10), kA, 0, kManyPerPort), Learned::Added);
  EXPECT_EQ(fdb.learn(key(1, 20), kB, 0, kManyPerPort), Learned::Added);
  EXPECT_EQ(fdb.find(key(1, 10)), kA);
  EXPECT_EQ(fdb.find(key(1, 20)), kB);
  EXPECT_EQ(fdb.find(key(1, 30)), kNoPort);
  EXPECT_EQ(fdb.learn(key(1, 10), kB, 0, kManyPerPort), Learned::Moved);
  EXPECT_EQ(fdb.find(key(1, 10)), kB);
}

TEST(Fdb, HoldsNoMoreThanThePortsLimit) {
  Fdb fdb(100, 42);
  for (u64 i = 0; i < 3; i++) EXPECT_EQ(fdb.learn(key(i), kA, 0, 3), Learned::Added);
  EXPECT_EQ(fdb.learn(key(3), kA, 0, 3), Learned::PortLimit);
  EXPECT_EQ(fdb.find(key(3)), kNoPort);
  EXPECT_EQ(fdb.learn(key(2), kA, 5, 3), Learned::Known);
}

TEST(Fdb, FullTableEvictsTheOldestOfTheLargestPort) {
  Fdb fdb(10, 42);
  for (u64 i = 0; i < 7; i++) (void)fdb.learn(key(i), kA, 0, kManyPerPort);
  for (u64 i = 7; i < 10; i++) (void)fdb.learn(key(i), kB, 0, kManyPerPort);
  (void)fdb.learn(key(0), kA, 1, kManyPerPort); // refreshed: now 1 is the oldest
  EXPECT_EQ(fdb.learn(key(100), kC, 1, kManyPerPort), Learned::Added);
  EXPECT_EQ(fdb.find(key(1)), kNoPort);
  EXPECT_EQ(fdb.find(key(0)), kA);
  EXPECT_EQ(fdb.learned(), 10u);
  EXPECT_EQ(fdb.evicted(), 1u);
}

TEST(Fdb, AgesOnlyWhatWasNotSeen) {
  Fdb fdb(100, 42);
  (void)fdb.learn(key(1), kA, 10, kManyPerPort);
  (void)fdb.learn(key(2), kA, 20, kManyPerPort);
  (void)fdb.learn(key(1), kA, 30, kManyPerPort);
  EXPECT_EQ(fdb.age(25), 1u);
  EXPECT_EQ(fdb.find(key(1)), kA);
  EXPECT_EQ(fdb.find(key(2)), kNoPort);
}

TEST(Fdb, TenMillionAddressesOfOnePortLeaveTheOthersAlone) {
  Fdb fdb(1000, 42);
  (void)fdb.learn(key(1), kB, 0, kManyPerPort);
  for (u64 i = 10; i < 10'000'010; i++) (void)fdb.learn(key(i), kA, 1, kManyPerPort);
  EXPECT_EQ(fdb.find(key(1)), kB);
  EXPECT_EQ(fdb.learned(), 1000u);
}

// The same operations on a plain map with lists, compared after each thousand.
TEST(Fdb, AgreesWithAPlainMap) {
  struct Reference {
    std::map<u64, std::pair<PortIndex, u32>> entries;
    std::map<PortIndex, std::list<u64>> order;
    void drop(u64 k) {
      order[entries.at(k).first].remove(k);
      entries.erase(k);
    }
    void learn(FdbKey k, PortIndex p, u32 second) {
      auto found = entries.find(k.value);
      if (found != entries.end() && found->second == std::pair{p, second}) return;
      if (found != entries.end())
        drop(k.value);
      else if (entries.size() == 64) {
        PortIndex largest{0};
        for (u16 i = 1; i < 8; i++)
          if (order[PortIndex{i}].size() > order[largest].size()) largest = PortIndex{i};
        drop(order[largest].front());
      }
      entries[k.value] = {p, second};
      order[p].push_back(k.value);
    }
    void age(u32 second) {
      for (auto &[port, keys] : order)
        while (!keys.empty() && entries.at(keys.front()).second < second) drop(keys.front());
    }
  } reference;
  Fdb fdb(64, 7);
  std::mt19937 random(1);
  u32 second = 0;
  for (int i = 0; i < 50'000; i++) {
    const PortIndex port{static_cast<u16>(random() % 8)};
    const FdbKey k = key(random() % 200, static_cast<u16>(1 + random() % 2));
    switch (random() % 50) {
    case 0: second++; break;
    case 1:
      reference.age(second > 3 ? second - 3 : 0);
      fdb.age(second > 3 ? second - 3 : 0);
      break;
    default: reference.learn(k, port, second); (void)fdb.learn(k, port, second, kManyPerPort);
    }
    if (i % 100) continue;
    ASSERT_EQ(fdb.learned(), reference.entries.size()) << i;
    for (const auto &[value, entry] : reference.entries) {
      FdbKey expected;
      expected.value = value;
      ASSERT_EQ(fdb.find(expected), entry.first) << i;
    }
  }
}

TEST(PinTable, FirstOwnerKeepsTheAddress) {
  PinTable pins;
  const MacAddress mac{0x5254'0012'3456};
  EXPECT_EQ(pins.pin(mac, kA), kNoPort);
  EXPECT_EQ(pins.pin(mac, kB), kA);
  EXPECT_EQ(pins.find(mac), kA);
  pins.unpin(kA);
  EXPECT_EQ(pins.find(mac), kNoPort);
}

} // namespace
} // namespace abyme::net
