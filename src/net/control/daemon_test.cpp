#include "net/control/client.hpp"
#include "net/control/daemon.hpp"
#include "net/control/server.hpp"
#include "net/ports/sockets.hpp"
#include "net/switch/rig.hpp"
#include "net/vhost/driver.hpp"
#include "net/vhost/features.hpp"
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <thread>

namespace abyme::net {
namespace {

using driver::Guest;

constexpr u64 kRx = 0x10000, kTx = 0x20000, kBuffers = 0x100000;

// A front-end with a guest that has its buffers ready and sends what it is told.
class FrontEnd {
public:
  explicit FrontEnd(const std::string &path) {
    auto fd = connect_unix(path);
    if (!fd) return;
    socket_ = std::move(*fd);
    for (u16 i = 0; i < driver::kSize; i++) {
      rx_.descriptor(i) = {driver::kGuestBase + kBuffers + 0x800u * i, 0x800, VRING_DESC_F_WRITE, 0};
      rx_.offer(i);
    }
    hand_over();
  }
  void hand_over() {
    for (auto &m : driver::handshake(guest_, feature::kVersion1 | feature::kProtocolFeatures | feature::kMergeable,
                                     driver::kUserBase + kRx, driver::kUserBase + kTx, call_.get(), kick_.get()))
      EXPECT_TRUE(send_message(socket_.get(), m));
  }
  void reconnect(const std::string &path) {
    auto fd = connect_unix(path);
    ASSERT_TRUE(fd);
    socket_ = std::move(*fd);
    hand_over();
  }
  void send(const rig::Bytes &frame) {
    const u64 at = 0x200000 + 0x800u * (sent_ % driver::kSize);
    std::memset(guest_.base + at, 0, 12);
    std::memcpy(guest_.base + at + 12, frame.data(), frame.size());
    const u16 i = static_cast<u16>(sent_++ % driver::kSize);
    tx_.descriptor(i) = {driver::kGuestBase + at, static_cast<u32>(frame.size()) + 12, 0, 0};
    tx_.offer(i);
    const u64 one = 1;
    (void)!write(kick_.get(), &one, sizeof one);
  }
  std::vector<rig::Bytes> take() {
    std::vector<rig::Bytes> out;
    while (taken_ != rx_.used_index()) {
      const auto used = rx_.used(taken_++);
      const u8 *p = guest_.base + kBuffers + 0x800u * used.id;
      out.emplace_back(p + 12, p + used.len);
      rx_.offer(static_cast<u16>(used.id));
    }
    return out;
  }
  [[nodiscard]] bool connected() const { return static_cast<bool>(socket_); }
  [[nodiscard]] int socket() const { return socket_.get(); }

private:
  Guest guest_;
  driver::SplitQueue rx_{guest_, kRx}, tx_{guest_, kTx};
  Fd call_{eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)}, kick_{eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)}, socket_;
  u16 taken_ = 0;
  unsigned sent_ = 0;
};

class DaemonTest : public testing::Test {
protected:
  void SetUp() override {
    char name[] = "/tmp/abyme-net-test-XXXXXX";
    directory = mkdtemp(name);
    ASSERT_TRUE(start(text()));
  }
  void TearDown() override {
    daemon.reset();
    std::filesystem::remove_all(directory);
  }
  [[nodiscard]] std::string text() const {
    return fmt::format(R"(
switches: {{core: {{}}}}
port_groups:
  blue: {{switch: core, vlan: 10}}
  red: {{switch: core, vlan: 20}}
ports:
  a: {{port_group: blue, kind: vhost-user, path: {0}/a, mac: "52:54:00:00:00:01"}}
  b: {{port_group: blue, kind: vhost-user, path: {0}/b, mac: "52:54:00:00:00:02"}}
)",
                       directory);
  }
  [[nodiscard]] Result<void> start(const std::string &config) {
    const auto tree = read_config_text(config, "test.yml");
    if (!tree) return std::unexpected(tree.error());
    daemon = std::make_unique<Daemon>(clock);
    return daemon->load(*tree, "");
  }
  void steps(int n = 400) {
    while (n--) daemon->loop().step(0);
  }
  [[nodiscard]] std::string state(const char *port) const {
    const auto *p = daemon->port(port);
    return p->on().connected(p->index()) ? "connected" : "waiting";
  }
  // The error of a configuration.
  [[nodiscard]] static std::string error_of(const std::string &config) {
    const auto tree = read_config_text(config, "test.yml");
    if (!tree) return tree.error().message;
    const auto parsed = parse_config(*tree);
    return parsed ? "" : parsed.error().message;
  }

  HostClock clock;
  std::string directory;
  std::unique_ptr<Daemon> daemon;
  rig::Bytes a_to_b = rig::frame(MacAddress{0x5254'0000'0002}, MacAddress{0x5254'0000'0001});
};

TEST_F(DaemonTest, FramesCrossBetweenFrontEnds) {
  FrontEnd a(directory + "/a"), b(directory + "/b");
  steps();
  EXPECT_EQ(state("a"), "connected");
  (void)b.take();
  for (int i = 0; i < 100; i++) {
    a.send(a_to_b);
    steps(80);
    ASSERT_EQ(b.take(), std::vector<rig::Bytes>{a_to_b}) << i;
  }
}

TEST_F(DaemonTest, AChangeTakesEffectAtOnceAndKeepsConnections) {
  FrontEnd a(directory + "/a"), b(directory + "/b");
  steps();
  (void)b.take();
  ASSERT_TRUE(daemon->change({{"ports", {{"b", {{"port_group", "red"}}}}}}));
  a.send(a_to_b);
  steps(80);
  EXPECT_TRUE(b.take().empty());
  ASSERT_TRUE(daemon->change({{"port_groups", {{"red", {{"vlan", 10}}}}}}));
  a.send(a_to_b);
  steps(80);
  EXPECT_EQ(b.take().size(), 1u);
  EXPECT_FALSE(daemon->change({{"port_groups", {{"red", {{"vlan", 5000}}}}}}));
  EXPECT_FALSE(daemon->saved());
}

TEST_F(DaemonTest, AConnectStormDoesNotStallOthers) {
  FrontEnd a(directory + "/a");
  steps();
  std::vector<Fd> storm;
  const Nanoseconds start = clock.now();
  for (int i = 0; i < 300; i++) {
    if (auto fd = connect_unix(directory + "/b")) {
      (void)!write(fd->get(), "\2\0\0\0\1", 5); // half a message
      storm.push_back(std::move(*fd));
    }
    if (i % 3) storm.clear();
    steps(3);
  }
  EXPECT_LT(clock.now() - start, 5'000'000'000u);
  storm.clear();
  EXPECT_EQ(state("a"), "connected");
  const Nanoseconds until = clock.now() + 3'000'000'000;
  std::unique_ptr<FrontEnd> b;
  while (clock.now() < until && state("b") != "connected") { // once the storm's leftovers are gone
    b = std::make_unique<FrontEnd>(directory + "/b");
    const Nanoseconds soon = clock.now() + 200'000'000;
    while (clock.now() < soon && state("b") != "connected") steps(50);
  }
  EXPECT_EQ(state("b"), "connected");
}

TEST_F(DaemonTest, ARestartedSwitchTakesItsGuestsBack) {
  FrontEnd a(directory + "/a"), b(directory + "/b");
  steps();
  a.send(a_to_b);
  steps(20);
  daemon.reset();
  ASSERT_TRUE(start(text()));
  a.reconnect(directory + "/a");
  b.reconnect(directory + "/b");
  steps();
  (void)b.take();
  a.send(a_to_b);
  steps(20);
  EXPECT_EQ(b.take(), std::vector<rig::Bytes>{a_to_b});
}

TEST_F(DaemonTest, ABrokenQueueStopsAndIsNamed) {
  FrontEnd a(directory + "/a"), b(directory + "/b");
  steps();
  rig::Bytes huge(60);
  auto bad = driver::message(VhostRequest::SetVringNum, u32{99}, u32{64});
  ASSERT_TRUE(send_message(a.socket(), bad));
  steps(200);
  EXPECT_EQ(state("a"), "waiting");
  EXPECT_EQ(state("b"), "connected");
  EXPECT_EQ(daemon->port("a")->misdeeds(), 1u);
  EXPECT_NE(daemon->port("a")->last_misdeed().find("queue 99"), std::string::npos);
}

TEST_F(DaemonTest, LinkEffects) {
  FrontEnd a(directory + "/a"), b(directory + "/b");
  steps();
  (void)b.take();
  const auto set = [&](nlohmann::json link) { ASSERT_TRUE(daemon->change({{"ports", {{"a", {{"link", link}}}}}})); };
  const auto drops = [&](DropReason r) {
    const auto *p = daemon->port("a");
    return p->on().counters(p->index()).drops[static_cast<unsigned>(r)];
  };
  set({{"up", false}});
  a.send(a_to_b);
  steps(20);
  EXPECT_EQ(drops(DropReason::LinkDown), 1u);
  set({{"up", true}, {"loss", "100%"}});
  a.send(a_to_b);
  steps(20);
  EXPECT_EQ(drops(DropReason::LinkLoss), 1u);
  EXPECT_TRUE(b.take().empty());
  set({{"loss", 0}, {"delay", "30ms"}});
  const Nanoseconds start = clock.now();
  a.send(a_to_b);
  while (b.take().empty() && clock.now() - start < 2'000'000'000) steps(20);
  EXPECT_GE(clock.now() - start, 30'000'000u);
  EXPECT_LT(clock.now() - start, 2'000'000'000u);
}

TEST_F(DaemonTest, RateLimitsToWhatItSays) {
  FrontEnd a(directory + "/a"), b(directory + "/b");
  steps();
  (void)b.take();
  ASSERT_TRUE(daemon->change({{"ports", {{"a", {{"link", {{"rate", "1M"}}}}}}}}));
  const Nanoseconds start = clock.now();
  for (int i = 0; i < 20; i++)
    a.send(rig::frame(MacAddress{0x5254'0000'0002}, MacAddress{0x5254'0000'0001}, {}, 1250)); // 10 ms each
  std::size_t got = 0;
  while (got < 20 && clock.now() - start < 3'000'000'000) {
    steps(20);
    got += b.take().size();
  }
  EXPECT_EQ(got, 20u);
  EXPECT_GE(clock.now() - start, 195'000'000u);
}

TEST_F(DaemonTest, CaptureShowsTheDropReason) {
  ControlServer control(*daemon);
  ASSERT_TRUE(control.listen(directory + "/control"));
  FrontEnd a(directory + "/a"), b(directory + "/b");
  steps();
  auto client = connect_unix(directory + "/control");
  ASSERT_TRUE(client);
  const std::string request = "{\"op\":\"capture\",\"target\":\"a\",\"filter\":\"ether src 52:54:00:00:00:99\"}\n";
  ASSERT_EQ(write(client->get(), request.data(), request.size()), static_cast<ssize_t>(request.size()));
  steps(100);
  a.send(a_to_b); // filtered out
  a.send(rig::frame(MacAddress{0x5254'0000'0002}, MacAddress{0x5254'0000'0099}));
  std::string got;
  char buffer[8192];
  const Nanoseconds until = clock.now() + 2'000'000'000;
  while (clock.now() < until && got.find("forged-transmit") == std::string::npos) {
    steps(50);
    const ssize_t n = read(client->get(), buffer, sizeof buffer);
    if (n > 0) got.append(buffer, static_cast<std::size_t>(n));
  }
  EXPECT_NE(got.find("forged-transmit"), std::string::npos);
  EXPECT_EQ(got.find("VLAN 10"), got.rfind("VLAN 10")); // one frame
}

TEST_F(DaemonTest, ErrorsNameLineAndKnownKeys) {
  const auto has = [](const std::string &text, const char *part) { return text.find(part) != std::string::npos; };
  EXPECT_EQ(error_of("switches: {core: {}}\nport_groups:\n  g:\n    switch: cor\n"),
            "test.yml:4: port_groups.g.switch is 'cor'; the switches are: core");
  EXPECT_TRUE(has(error_of("switches:\n  core:\n    mtuu: 1500\n"),
                  "test.yml:3: switches.core.mtuu is unknown here; known are: mac_learning, mtu, policy"));
  EXPECT_TRUE(has(error_of("switches: {c: {}}\nport_groups:\n  g: {switch: c, vlan: 4096}\n"),
                  "test.yml:3: port_groups.g.vlan is '4096'"));
  EXPECT_TRUE(
      has(error_of("switches: {c: {}}\nport_groups: {g: {switch: c}}\nports:\n  p: {port_group: g, kind: tpa}\n"),
          "the kinds are: vhost-user, tap, packet, vxlan, pcap, passt"));
  EXPECT_TRUE(has(error_of("switches: {c: {policy: {promiscuous: yes}}}\n"), "expected one of: accept, reject"));
  EXPECT_TRUE(has(error_of("a: [\n"), "test.yml:"));
  EXPECT_TRUE(has(error_of("name: a\nname: b\n"), "twice"));
}

TEST_F(DaemonTest, SavedConfigurationReadsBackTheSame) {
  const std::string file = directory + "/saved.yml";
  { std::ofstream(file) << text(); }
  const auto tree = read_config_file(file);
  ASSERT_TRUE(tree);
  nlohmann::json changed = tree->root;
  changed["port_groups"]["blue"]["policy"]["forged_transmits"] = "accept";
  changed["name"] = "true"; // must stay text
  ASSERT_TRUE(write_config_file(file, changed));
  const auto again = read_config_file(file);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->root, changed);
}

TEST_F(DaemonTest, SleepsWhenIdle) {
  FrontEnd a(directory + "/a"), b(directory + "/b");
  steps();
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
  steps(200); // patience runs out, the queues are armed
  const auto cpu = [] {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<u64>(t.tv_sec) * 1'000'000'000 + static_cast<u64>(t.tv_nsec);
  };
  const u64 before = cpu();
  const Nanoseconds until = clock.now() + 500'000'000;
  while (clock.now() < until) daemon->loop().step(100'000'000);
  EXPECT_LT(cpu() - before, 25'000'000u); // 5% of a core, on any machine
}

} // namespace
} // namespace abyme::net
