#include "net/vhost/driver.hpp"
#include "net/vhost/features.hpp"
#include <gtest/gtest.h>
#include <sys/socket.h>

namespace abyme::net {
namespace {

using namespace driver;

constexpr u64 kBase = feature::kVersion1 | feature::kProtocolFeatures | feature::kMergeable | feature::kIndirect;
constexpr u64 kRx = 0x10000, kTx = 0x20000, kBuffers = 0x100000;

class Owner final : public NetDeviceOwner {
public:
  void kick_changed(unsigned) override { kicks++; }
  void queues_changed() override { changes++; }
  void rarp_asked(MacAddress mac) override { rarp = mac; }
  int kicks = 0, changes = 0;
  MacAddress rarp;
};

class Vhost : public testing::Test {
protected:
  void connect(u64 features = kBase) {
    for (auto &m : handshake(guest, features, kUserBase + kRx, kUserBase + kTx, call.get(), kick.get())) {
      const auto reply = device.handle(std::move(m));
      ASSERT_TRUE(reply) << reply.error().message;
    }
    ASSERT_TRUE(device.queue(0).running);
    ASSERT_TRUE(device.queue(1).running);
  }
  NetRing::Health receive() {
    batch.clear();
    return device.queue(1).ring.receive(device.memory(), device.net(), batch);
  }
  // A frame of `n` bytes of its value, behind a header.
  void fill(u64 offset, u32 n, u8 value) {
    std::memset(guest.base + offset, 0, 12);
    std::memset(guest.base + offset + 12, value, n);
  }
  Guest guest;
  SplitQueue rx{guest, kRx}, tx{guest, kTx};
  Fd call{eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)}, kick{eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  Owner owner;
  VhostNetDevice device{2, owner};
  FrameBatch batch;
};

TEST_F(Vhost, TakesFramesOfOneAndOfManyDescriptors) {
  connect();
  fill(kBuffers, 100, 1);
  tx.descriptor(3) = {kGuestBase + kBuffers, 112, 0, 0};
  fill(kBuffers + 0x1000, 200, 2);
  tx.descriptor(4) = {kGuestBase + kBuffers + 0x1000, 5, VRING_DESC_F_NEXT, 9}; // the header cut in two
  tx.descriptor(9) = {kGuestBase + kBuffers + 0x1005, 57, VRING_DESC_F_NEXT, 5};
  tx.descriptor(5) = {kGuestBase + kBuffers + 0x103e, 150, 0, 0};
  tx.offer(3);
  tx.offer(4);
  EXPECT_EQ(receive(), NetRing::Health::Good);
  ASSERT_EQ(batch.size(), 2u);
  EXPECT_EQ(batch.frames()[0].length, 100u);
  EXPECT_EQ(batch.frames()[1].length, 200u);
  EXPECT_EQ(batch.frames()[1].data[199], 2);
  EXPECT_EQ(tx.used_index(), 2);
  EXPECT_EQ(tx.used(1).id, 4u);
}

TEST_F(Vhost, TakesIndirectTables) {
  connect();
  fill(kBuffers, 60, 7);
  constexpr u64 kTable = 0x30001; // nothing says that a table is aligned
  const vring_desc table[] = {{kGuestBase + kBuffers, 12, VRING_DESC_F_NEXT, 1},
                              {kGuestBase + kBuffers + 12, 60, 0, 0}};
  std::memcpy(guest.base + kTable, table, sizeof table);
  tx.descriptor(0) = {kGuestBase + kTable, 32, VRING_DESC_F_INDIRECT, 0};
  tx.offer(0);
  EXPECT_EQ(receive(), NetRing::Health::Good);
  ASSERT_EQ(batch.size(), 1u);
  EXPECT_EQ(batch.frames()[0].length, 60u);
}

TEST_F(Vhost, ACopyIsJudgedWhateverTheGuestWritesLater) {
  connect();
  fill(kBuffers, 60, 1);
  tx.descriptor(0) = {kGuestBase + kBuffers, 72, 0, 0};
  tx.offer(0);
  (void)receive();
  std::memset(guest.base + kBuffers, 0xff, 72);
  EXPECT_EQ(batch.frames()[0].data[0], 1);
}

TEST_F(Vhost, RefusesWhatIsNoChain) {
  struct Bad {
    const char *what;
    vring_desc first, second;
  };
  const Bad cases[] = {
      {"a loop", {kGuestBase + kBuffers, 20, VRING_DESC_F_NEXT, 1}, {kGuestBase + kBuffers, 20, VRING_DESC_F_NEXT, 0}},
      {"out of the table", {kGuestBase + kBuffers, 20, VRING_DESC_F_NEXT, 64}, {}},
      {"outside memory", {0, 20, 0, 0}, {}},
      {"beyond the end", {kGuestBase + guest.size - 8, 20, 0, 0}, {}},
      {"wrapping around", {~u64{0} - 4, 20, 0, 0}, {}},
      {"writable", {kGuestBase + kBuffers, 20, VRING_DESC_F_WRITE, 0}, {}},
      {"nested tables", {kGuestBase + kTx, 16, VRING_DESC_F_INDIRECT, 0}, {}}, // the table is the descriptor itself
      {"an empty table", {kGuestBase + kBuffers, 0, VRING_DESC_F_INDIRECT, 0}, {}},
      {"an odd table", {kGuestBase + kBuffers, 17, VRING_DESC_F_INDIRECT, 0}, {}},
      {"gigabytes", {kGuestBase, ~u32{0}, 0, 0}, {}},
  };
  for (const Bad &bad : cases) {
    SCOPED_TRACE(bad.what);
    Owner other;
    VhostNetDevice fresh(1, other);
    std::memset(guest.base, 0, 0x40000);
    for (auto &m : handshake(guest, kBase, kUserBase + kRx, kUserBase + kTx, call.get(), kick.get()))
      ASSERT_TRUE(fresh.handle(std::move(m)));
    tx.descriptor(0) = bad.first;
    tx.descriptor(1) = bad.second;
    tx.offer(0);
    batch.clear();
    EXPECT_EQ(fresh.queue(1).ring.receive(fresh.memory(), fresh.net(), batch), NetRing::Health::Broken);
    EXPECT_TRUE(batch.empty());
  }
}

TEST_F(Vhost, MoreAvailableThanTheRingHoldsIsBroken) {
  connect();
  tx.available_index() = kSize + 1;
  EXPECT_EQ(receive(), NetRing::Health::Broken);
}

TEST_F(Vhost, RuntsAndGiantsReachThePolicyAsSuch) {
  connect();
  tx.descriptor(0) = {kGuestBase + kBuffers, 4, 0, 0};
  tx.descriptor(1) = {kGuestBase + kBuffers, 200'000, 0, 0};
  tx.descriptor(2) = {kGuestBase + kBuffers, 0, 0, 0};
  for (u16 i : {u16{0}, u16{1}, u16{2}}) tx.offer(i);
  EXPECT_EQ(receive(), NetRing::Health::Good);
  ASSERT_EQ(batch.size(), 3u);
  EXPECT_EQ(batch.frames()[0].length, 0u);
  EXPECT_TRUE(batch.frames()[1].oversize);
  EXPECT_EQ(batch.frames()[2].length, 0u);
}

TEST_F(Vhost, MergesBuffersForAFrameThatNeedsThem) {
  connect();
  for (u16 i = 0; i < 4; i++) {
    rx.descriptor(i) = {kGuestBase + kBuffers + 0x1000u * i, 256, VRING_DESC_F_WRITE, 0};
    rx.offer(i);
  }
  FrameBatch out;
  std::memset(out.reserve(600), 9, 600);
  const Frame &f = out.commit(600);
  Egress e{.frame = &f};
  EXPECT_EQ(device.queue(0).ring.transmit(device.memory(), device.net(), {&e, 1}), NetRing::Health::Good);
  EXPECT_EQ(e.outcome, DropReason::None);
  EXPECT_EQ(rx.used_index(), 3);
  EXPECT_EQ(guest.at<u16>(kBuffers + 10), 3); // num_buffers
  EXPECT_EQ(rx.used(0).len, 256u);
  EXPECT_EQ(rx.used(2).len, 612u - 512u);
  Egress again{.frame = &f};
  (void)device.queue(0).ring.transmit(device.memory(), device.net(), {&again, 1});
  EXPECT_EQ(again.outcome, DropReason::QueueFull);
  EXPECT_EQ(rx.used_index(), 3); // what did not suffice is kept
}

TEST_F(Vhost, CallsOnlyWhenTheDriverAskedTo) {
  connect(kBase | feature::kEventIndex);
  tx.used_event() = 1;
  for (u16 i = 0; i < 3; i++) {
    tx.descriptor(i) = {kGuestBase + kBuffers, 72, 0, 0};
    tx.offer(i);
    (void)receive();
    EXPECT_EQ(device.queue(1).ring.wants_call(), i == 1) << i;
  }
}

TEST_F(Vhost, GoesOnWhereTheUsedRingSays) {
  connect();
  for (u16 i = 0; i < 5; i++) {
    tx.descriptor(i) = {kGuestBase + kBuffers, 72, 0, 0};
    tx.offer(i);
  }
  (void)receive();
  Owner other;
  VhostNetDevice next(2, other); // after a crash: the front-end hands the same rings over, with a stale base
  for (auto &m : handshake(guest, kBase, kUserBase + kRx, kUserBase + kTx, call.get(), kick.get()))
    ASSERT_TRUE(next.handle(std::move(m)));
  batch.clear();
  (void)next.queue(1).ring.receive(next.memory(), next.net(), batch);
  EXPECT_TRUE(batch.empty());
  tx.offer(7);
  tx.descriptor(7) = {kGuestBase + kBuffers, 72, 0, 0};
  (void)next.queue(1).ring.receive(next.memory(), next.net(), batch);
  EXPECT_EQ(batch.size(), 1u);
}

TEST_F(Vhost, MemoryTakenAwayUnderWayIsNoticedNotFatal) {
  connect();
  tx.descriptor(0) = {kGuestBase + guest.size - 4096, 72, 0, 0};
  tx.offer(0);
  ASSERT_EQ(ftruncate(guest.file.get(), static_cast<off_t>(guest.size - 8192)), 0);
  (void)receive();
  EXPECT_TRUE(device.memory().torn());
  ASSERT_EQ(ftruncate(guest.file.get(), static_cast<off_t>(guest.size)), 0); // for the mapping of the fixture
}

TEST_F(Vhost, RefusesMessagesThatDoNotFit) {
  const auto refused = [&](VhostMessage m) { return !device.handle(std::move(m)); };
  EXPECT_TRUE(refused(message(VhostRequest::SetFeatures, ~u64{0})));
  EXPECT_TRUE(refused(message(VhostRequest::SetFeatures, u32{0})));
  EXPECT_TRUE(refused(message(VhostRequest::SetVringNum, u32{99}, u32{256})));
  EXPECT_TRUE(refused(message(VhostRequest::SetVringNum, u32{0}, u32{1u << 20})));
  EXPECT_TRUE(refused(message(VhostRequest::SetVringKick, u64{0})));
  EXPECT_TRUE(refused(message(VhostRequest::SetMemTable, u32{3}, u32{0})));
  EXPECT_TRUE(refused(message(VhostRequest{99}, u64{0})));
  auto small = message(VhostRequest::SetMemTable, u32{1}, u32{0}, kGuestBase, 2 * guest.size, kUserBase, u64{0});
  small.fds.emplace_back(dup(guest.file.get()));
  EXPECT_TRUE(refused(std::move(small)));
  auto wraps = message(VhostRequest::SetMemTable, u32{1}, u32{0}, ~u64{0} - 10, guest.size, kUserBase, u64{0});
  wraps.fds.emplace_back(dup(guest.file.get()));
  EXPECT_TRUE(refused(std::move(wraps)));
}

TEST_F(Vhost, RingsOutsideMemoryDoNotStart) {
  for (auto &m : handshake(guest, kBase, kUserBase + guest.size - 64, kUserBase + kTx + 1, call.get(), kick.get()))
    ASSERT_TRUE(device.handle(std::move(m)));
  EXPECT_FALSE(device.queue(0).running);
  EXPECT_FALSE(device.queue(1).running); // misaligned
}

TEST_F(Vhost, StoppingAQueueTellsHowFarItCame) {
  connect();
  tx.descriptor(0) = {kGuestBase + kBuffers, 72, 0, 0};
  tx.offer(0);
  (void)receive();
  const auto reply = device.handle(message(VhostRequest::GetVringBase, u32{1}, u32{0}));
  ASSERT_TRUE(reply && *reply);
  EXPECT_EQ((*reply)->get<u32>(4), 1u);
  EXPECT_FALSE(device.queue(1).running);
}

TEST_F(Vhost, PackedRingGoesRoundAndRound) {
  connect(kBase | feature::kPacked);
  fill(kBuffers, 60, 5);
  bool wrap = true;
  u16 at = 0;
  for (int i = 0; i < 1000; i++) {
    const u16 available = static_cast<u16>((wrap ? 0x80 : 0) | (wrap ? 0 : 0x8000));
    guest.at<vring_packed_desc>(kTx + 16u * at) = {kGuestBase + kBuffers, 72, static_cast<u16>(i & 63), available};
    EXPECT_EQ(receive(), NetRing::Health::Good);
    ASSERT_EQ(batch.size(), 1u) << i;
    const auto &d = guest.at<vring_packed_desc>(kTx + 16u * at);
    EXPECT_EQ(d.flags & 0x8080, wrap ? 0x8080 : 0);
    EXPECT_EQ(d.id, i & 63);
    if (++at == kSize) at = 0, wrap = !wrap;
  }
}

TEST(VhostReader, PutsMessagesTogetherFromSingleBytes) {
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  const Fd ours(pair[0]), theirs(pair[1]);
  VhostReader reader;
  const u8 bytes[] = {2, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8};
  for (std::size_t i = 0; i < sizeof bytes; i++) {
    ASSERT_EQ(write(theirs.get(), &bytes[i], 1), 1);
    const auto step = reader.read(ours.get());
    ASSERT_TRUE(step);
    EXPECT_EQ(step->message.has_value(), i + 1 == sizeof bytes);
  }
  const u8 huge[] = {2, 0, 0, 0, 1, 0, 0, 0, 255, 255, 255, 255};
  ASSERT_EQ(write(theirs.get(), huge, sizeof huge), static_cast<ssize_t>(sizeof huge));
  EXPECT_FALSE(reader.read(ours.get()));
}

} // namespace
} // namespace abyme::net
