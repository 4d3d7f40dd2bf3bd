#include "devices/vhost_user_net/control_plane.hpp"
#include <gtest/gtest.h>
#include <vector>

namespace abyme::virtio {
namespace {

constexpr MacAddress kMac{2, 0, 0, 0, 0, 1};
constexpr u64 kAll = net::kControlFeatures | net::kMq;

struct ControlPlaneTest : testing::Test {
  ControlPlane plane{kMac, 4};
  bool run(u8 command_class, u8 command, std::vector<u8> data, u64 features = kAll) {
    const ControlState before = plane.state;
    const bool ok = plane.execute(features, command_class, command, data);
    if (!ok) {
      EXPECT_EQ(plane.state, before) << "a refused command changes nothing";
    }
    return ok;
  }
};

TEST_F(ControlPlaneTest, ReceiveModes) {
  EXPECT_EQ(plane.state.rx_mode, ControlState::Promiscuous);
  EXPECT_TRUE(run(0, 0, {0}));
  EXPECT_TRUE(run(0, 1, {1}));
  EXPECT_TRUE(run(0, 5, {1}));
  EXPECT_EQ(plane.state.rx_mode, ControlState::AllMulticast | ControlState::NoBroadcast);
  EXPECT_FALSE(run(0, 0, {2}));
  EXPECT_FALSE(run(0, 0, {}));
  EXPECT_FALSE(run(0, 0, {1, 1}));
  EXPECT_FALSE(run(0, 6, {1}));
  EXPECT_FALSE(run(0, 5, {1}, net::kCtrlRx)) << "RX_EXTRA was not negotiated";
  EXPECT_FALSE(run(0, 0, {1}, 0));
}

TEST_F(ControlPlaneTest, MacAddress) {
  EXPECT_TRUE(run(1, 1, {2, 0, 0, 0, 0, 9}));
  EXPECT_EQ(plane.state.mac, (MacAddress{2, 0, 0, 0, 0, 9}));
  EXPECT_FALSE(run(1, 1, {2, 0, 0, 0, 0}));
  EXPECT_FALSE(run(1, 1, {2, 0, 0, 0, 0, 9}, net::kCtrlRx));
  plane.reset();
  EXPECT_EQ(plane.state.mac, kMac);
}

TEST_F(ControlPlaneTest, MacTables) {
  EXPECT_TRUE(run(1, 0, {1, 0, 0, 0, 2, 0, 0, 0, 0, 5, 2, 0, 0, 0, 1, 0, 0x5e, 0, 0, 1, 1, 0, 0x5e, 0, 0, 2}));
  EXPECT_EQ(plane.state.unicast_count, 1);
  EXPECT_EQ(plane.state.multicast_count, 2);
  EXPECT_EQ(plane.state.multicast[1], (MacAddress{1, 0, 0x5e, 0, 0, 2}));
  EXPECT_FALSE(run(1, 0, {1, 0, 0, 0, 2, 0, 0}));
  EXPECT_FALSE(run(1, 0, {0, 0, 0, 0}));
  EXPECT_FALSE(run(1, 0, {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}));
  EXPECT_FALSE(run(1, 0, {0, 0, 0, 0, 0, 0, 0, 0, 1})) << "trailing bytes";
  std::vector<u8> many(8 + 65 * 6);
  many[0] = 65;
  EXPECT_TRUE(run(1, 0, many));
  EXPECT_TRUE(plane.state.unicast_overflow);
  EXPECT_EQ(plane.state.unicast_count, 0);
  EXPECT_FALSE(plane.state.multicast_overflow);
}

TEST_F(ControlPlaneTest, Vlans) {
  EXPECT_TRUE(run(2, 0, {100, 0}));
  EXPECT_TRUE(run(2, 0, {0xff, 0x0f}));
  EXPECT_EQ(plane.state.vlans[12], 1 << 4);
  EXPECT_EQ(plane.state.vlans[511], 0x80);
  EXPECT_TRUE(run(2, 1, {100, 0}));
  EXPECT_EQ(plane.state.vlans[12], 0);
  EXPECT_FALSE(run(2, 0, {0, 0x10}));
  EXPECT_FALSE(run(2, 2, {1, 0}));
  EXPECT_FALSE(run(2, 0, {1}));
}

TEST_F(ControlPlaneTest, QueuePairs) {
  EXPECT_TRUE(run(4, 0, {4, 0}));
  EXPECT_EQ(plane.state.active_pairs, 4);
  EXPECT_FALSE(run(4, 0, {0, 0}));
  EXPECT_FALSE(run(4, 0, {5, 0}));
  EXPECT_FALSE(run(4, 0, {1, 0}, net::kControlFeatures)) << "MQ was not negotiated";
  ControlState state = plane.state;
  state.active_pairs = 9;
  EXPECT_FALSE(plane.valid(state));
}

TEST_F(ControlPlaneTest, AnnouncementsAndUnknownClasses) {
  EXPECT_FALSE(plane.take_announce_ack());
  EXPECT_TRUE(run(3, 0, {}));
  EXPECT_TRUE(plane.take_announce_ack());
  EXPECT_FALSE(plane.take_announce_ack());
  EXPECT_FALSE(run(3, 1, {}));
  EXPECT_FALSE(run(5, 0, {0}));
  EXPECT_FALSE(run(255, 255, {}));
}

} // namespace
} // namespace abyme::virtio
