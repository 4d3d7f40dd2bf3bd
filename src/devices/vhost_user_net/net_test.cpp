#include "devices/vhost_user_net/net.hpp"
#include "devices/virtio/guest_driver.hpp"
#include <algorithm>
#include <fcntl.h>
#include <filesystem>
#include <functional>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

namespace abyme::virtio {
namespace {

using namespace test;

constexpr u64 kFeatures = kVersion1 | kRingFeatures | net::kMrgRxbuf | net::kControlFeatures;
constexpr MacAddress kMac{0x02, 0xab, 0, 0, 0, 1};
constexpr u32 kNetHeader = 12; // struct virtio_net_hdr with num_buffers
constexpr u64 kLinkUp = 1, kAnnounce = 2;

template <class Condition> bool eventually(Condition condition, std::chrono::seconds patience = 20s) {
  const auto end = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(2ms);
  }
  return true;
}

struct Directory {
  Directory() { EXPECT_NE(mkdtemp(path.data()), nullptr); }
  ~Directory() { std::filesystem::remove_all(path); }
  std::string path = testing::TempDir() + "abyme-net-XXXXXX";
};

// DPDK's testpmd as the back end, without huge pages. In `io` mode it sends each frame back where it came from.
class Testpmd {
public:
  Testpmd(const std::string &socket, unsigned queues, const std::string &mode = "io") : socket_(socket) {
    const std::string n = std::to_string(queues);
    const std::vector<std::string> words = {"setpriv",
                                            "--pdeathsig",
                                            "KILL",
                                            "dpdk-testpmd",
                                            "-l",
                                            "0,1",
                                            "--no-pci",
                                            "--no-huge",
                                            "-m",
                                            "128",
                                            "--no-shconf",
                                            "--no-telemetry",
                                            "--vdev",
                                            "net_vhost0,iface=" + socket + ",queues=" + n,
                                            "--",
                                            "--forward-mode=" + mode,
                                            "--total-num-mbufs=4096",
                                            "--nb-cores=1",
                                            "--rxq=" + n,
                                            "--txq=" + n,
                                            "--stats-period=60"};
    std::vector<char *> arguments;
    for (const std::string &w : words) arguments.push_back(const_cast<char *>(w.c_str()));
    arguments.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    for (const int fd : {0, 1, 2}) posix_spawn_file_actions_addopen(&actions, fd, "/dev/null", O_RDWR, 0);
    EXPECT_EQ(posix_spawnp(&child_, arguments[0], &actions, nullptr, arguments.data(), environ), 0);
    posix_spawn_file_actions_destroy(&actions);
  }
  ~Testpmd() {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
    unlink(socket_.c_str());
  }
  [[nodiscard]] static bool installed() { return std::system("command -v dpdk-testpmd >/dev/null") == 0; }

private:
  std::string socket_;
  pid_t child_ = -1;
};

// A guest with one card.
struct Card {
  explicit Card(const std::string &socket, u16 pairs = 1) {
    auto device = VhostUserNet::open({.socket = socket, .mac = kMac, .queue_pairs = pairs}).value();
    net = device.get();
    pc = std::make_unique<Pc>(std::move(device));
    driver = std::make_unique<GuestDriver>(*pc);
  }
  [[nodiscard]] u64 status() { return driver->device_config(6, 2); }
  [[nodiscard]] bool wait_link(bool up) {
    return eventually([&] { return ((status() & kLinkUp) != 0) == up; });
  }
  // A frame of 64 bytes that says who sent it.
  [[nodiscard]] static std::array<u8, 64> frame(u8 number) {
    std::array<u8, 64> f{};
    std::fill_n(f.begin(), 6, u8{0xff});
    std::ranges::copy(kMac, f.begin() + 6);
    f[12] = 0x88, f[13] = 0xb5; // an EtherType for experiments
    for (std::size_t i = 14; i < f.size(); ++i) f[i] = static_cast<u8>(number + i);
    return f;
  }
  void post_receive(u16 queue, unsigned count) {
    for (unsigned i = 0; i < count; ++i) {
      const Gpa at = pc->allocate(2048);
      received[{queue, driver->queue(queue).add(std::array{Piece{at, 2048, true}})}] = at;
    }
    driver->kick(queue);
  }
  void send(u16 queue, u8 number) {
    const auto f = frame(number);
    const Gpa at = pc->allocate(kNetHeader + f.size());
    ASSERT_TRUE(pc->memory->write(at + kNetHeader, f.data(), f.size()));
    driver->queue(queue).add(std::array{Piece{at, static_cast<u32>(kNetHeader + f.size()), false}});
    driver->kick(queue);
  }
  [[nodiscard]] std::optional<std::vector<u8>> receive(u16 queue, std::chrono::milliseconds patience = 20s) {
    const auto used = driver->queue(queue).wait_used(patience);
    if (!used || used->length <= kNetHeader) return std::nullopt;
    const u8 *bytes = pc->memory->host(received.at({queue, static_cast<u16>(used->id)}), 2048);
    return std::vector<u8>(bytes + kNetHeader, bytes + used->length);
  }
  // Sends frames through a pair and expects each of them back.
  void echo(u16 pair, u8 count) {
    const auto receive_queue = static_cast<u16>(pair * 2), transmit_queue = static_cast<u16>(pair * 2 + 1);
    post_receive(receive_queue, count);
    for (u8 i = 0; i < count; ++i) {
      send(transmit_queue, i);
      const auto back = receive(receive_queue);
      ASSERT_TRUE(back) << "frame " << unsigned{i};
      const auto sent = frame(i);
      EXPECT_TRUE(std::ranges::equal(*back, sent)) << "frame " << unsigned{i};
      EXPECT_TRUE(driver->queue(transmit_queue).wait_used());
    }
  }
  // A command on the control queue: the answer.
  u8 command(u16 queue, std::vector<u8> bytes) {
    const Gpa request = pc->allocate(bytes.size()), answer = pc->allocate(1);
    EXPECT_TRUE(pc->memory->write(request, bytes.data(), bytes.size()) && pc->memory->store(answer, u8{255}));
    EXPECT_EQ(driver->request(
                  queue, std::array{Piece{request, static_cast<u32>(bytes.size()), false}, Piece{answer, 1, true}}),
              1u);
    u8 value = 255;
    EXPECT_TRUE(pc->memory->load(answer, value));
    return value;
  }

  VhostUserNet *net;
  std::unique_ptr<Pc> pc;
  std::unique_ptr<GuestDriver> driver;
  std::map<std::pair<u16, u16>, Gpa> received;
};

struct VhostUserNetTestpmd : testing::Test {
  void SetUp() override {
    if (!Testpmd::installed()) GTEST_SKIP() << "dpdk-testpmd is not installed (Debian package dpdk)";
  }
  Directory directory;
  const std::string socket = directory.path + "/net.sock";
};

TEST_F(VhostUserNetTestpmd, FramesComeBackUnchanged) {
  const Testpmd testpmd(socket, 1);
  Card card(socket);
  ASSERT_TRUE(card.wait_link(true));
  ASSERT_TRUE(card.driver->start(kFeatures, 3));
  card.echo(0, 50);
  EXPECT_GE(card.pc->interrupts.messages(GuestDriver::kMessage + 1), 1u) << "an interrupt for the receive queue";
}

TEST_F(VhostUserNetTestpmd, ServesAgainAfterAReset) {
  const Testpmd testpmd(socket, 1);
  Card card(socket);
  ASSERT_TRUE(card.wait_link(true));
  for (unsigned i = 0; i < 3; ++i) {
    ASSERT_TRUE(card.driver->start(kFeatures, 3));
    card.echo(0, 10);
    card.driver->reset();
    card.received.clear();
  }
}

TEST_F(VhostUserNetTestpmd, ReceivesWhatTheBackEndMakes) {
  const Testpmd testpmd(socket, 1, "txonly");
  Card card(socket);
  ASSERT_TRUE(card.wait_link(true));
  ASSERT_TRUE(card.driver->start(kFeatures, 3));
  card.post_receive(0, 128);
  for (unsigned i = 0; i < 128; ++i) {
    const auto frame = card.receive(0);
    ASSERT_TRUE(frame) << i;
    EXPECT_EQ(frame->size(), 64u);
    EXPECT_EQ((*frame)[12], 0x08) << "IPv4";
  }
}

TEST_F(VhostUserNetTestpmd, TwoQueuePairs) {
  const Testpmd testpmd(socket, 2);
  Card card(socket, 2);
  ASSERT_TRUE(card.wait_link(true));
  ASSERT_TRUE(card.driver->offered() & net::kMq);
  ASSERT_TRUE(card.driver->start(kFeatures | net::kMq, 5));
  card.echo(0, 5);
  EXPECT_EQ(card.command(4, {4, 0, 2, 0}), 0);
  card.echo(1, 5);
  card.echo(0, 5);
  EXPECT_EQ(card.command(4, {4, 0, 3, 0}), 1);
}

TEST_F(VhostUserNetTestpmd, ABackEndThatComesBackGetsTheConfiguration) {
  auto testpmd = std::make_unique<Testpmd>(socket, 2);
  Card card(socket, 2);
  ASSERT_TRUE(card.wait_link(true));
  ASSERT_TRUE(card.driver->start(kFeatures | net::kMq, 5));
  EXPECT_EQ(card.command(4, {4, 0, 2, 0}), 0);
  EXPECT_EQ(card.command(4, {1, 1, 2, 0, 0, 0, 0, 7}), 0);
  card.echo(1, 5);
  const unsigned changes = card.pc->interrupts.messages(GuestDriver::kMessage);
  testpmd.reset();
  EXPECT_TRUE(card.wait_link(false));
  EXPECT_TRUE(card.pc->interrupts.wait_message(GuestDriver::kMessage, changes + 1));
  testpmd = std::make_unique<Testpmd>(socket, 2);
  ASSERT_TRUE(card.wait_link(true));
  EXPECT_TRUE(card.status() & kAnnounce);
  EXPECT_EQ(card.command(4, {3, 0}), 0);
  EXPECT_FALSE(card.status() & kAnnounce);
  card.echo(0, 5);
  card.echo(1, 5);
  EXPECT_EQ(card.driver->device_config(0, 2), 0x0002u);
  EXPECT_EQ(card.driver->device_config(5, 1), 7u);
}

TEST_F(VhostUserNetTestpmd, ABackEndThatComesLateIsTaken) {
  Card card(socket);
  EXPECT_FALSE(card.status() & kLinkUp);
  ASSERT_TRUE(card.driver->start(kFeatures, 3));
  card.post_receive(0, 1);
  card.send(1, 42);
  const Testpmd testpmd(socket, 1);
  ASSERT_TRUE(card.wait_link(true));
  const auto back = card.receive(0);
  ASSERT_TRUE(back);
  EXPECT_TRUE(std::ranges::equal(*back, Card::frame(42)));
}

TEST_F(VhostUserNetTestpmd, PausedAndResumedItGoesOn) {
  const Testpmd testpmd(socket, 1);
  Card card(socket);
  ASSERT_TRUE(card.wait_link(true));
  ASSERT_TRUE(card.driver->start(kFeatures, 3));
  card.echo(0, 7);
  VirtioPci::State state;
  {
    const auto lock = card.pc->bus.lock();
    card.pc->function->pause();
    state = card.pc->function->save();
  }
  EXPECT_EQ(state.queues[0].position, (QueuePosition{7, 7}));
  EXPECT_EQ(state.queues[1].position, (QueuePosition{7, 7}));
  {
    const auto lock = card.pc->bus.lock();
    card.pc->function->resume();
  }
  card.echo(0, 7);
  {
    const auto lock = card.pc->bus.lock();
    ASSERT_TRUE(card.pc->function->restore(card.pc->function->save()));
  }
}

// Without a back end, or with one that is up to no good.
struct VhostUserNetTest : testing::Test {
  Directory directory;
  const std::string socket = directory.path + "/net.sock";
};

TEST_F(VhostUserNetTest, ConfigurationIsChecked) {
  EXPECT_FALSE(VhostUserNet::open({.socket = "", .mac = kMac}));
  EXPECT_FALSE(VhostUserNet::open({.socket = "s", .mac = {1, 0, 0, 0, 0, 1}}));
  EXPECT_FALSE(VhostUserNet::open({.socket = "s", .mac = {}}));
  EXPECT_FALSE(VhostUserNet::open({.socket = "s", .mac = kMac, .queue_pairs = 0}));
  EXPECT_FALSE(VhostUserNet::open({.socket = "s", .mac = kMac, .queue_pairs = 17}));
  EXPECT_FALSE(VhostUserNet::open({.socket = "s", .mac = kMac, .queue_size = 100}));
}

TEST_F(VhostUserNetTest, WithoutABackEndTheLinkIsDownAndTheControlQueueWorks) {
  Card card(socket);
  EXPECT_EQ(card.pc->config_read(0, 4), 0x1041'1af4u);
  EXPECT_EQ(card.status(), 0u);
  EXPECT_EQ(card.driver->device_config(0, 4), 0x0000ab02u);
  ASSERT_TRUE(card.driver->start(kFeatures, 3));
  EXPECT_EQ(card.command(2, {0, 0, 0}), 0);
  EXPECT_EQ(card.command(2, {2, 0, 7, 0}), 0);
  EXPECT_EQ(card.command(2, {9, 0, 0}), 1);
  EXPECT_EQ(card.net->control().rx_mode, 0);
  EXPECT_EQ(card.net->control().vlans[0], 0x80);
  EXPECT_TRUE(card.pc->interrupts.wait_message(GuestDriver::kMessage + 3));
  card.driver->reset();
  EXPECT_EQ(card.net->control().rx_mode, ControlState::Promiscuous);
}

// The back end's interrupts go past this process where the engine can do that, for as long as their vectors are open.
TEST_F(VhostUserNetTest, IrqfdsFollowTheVectors) {
  Card card(socket);
  DoorbellEngine engine;
  card.pc->function->connect(engine);
  ASSERT_TRUE(card.driver->start(kFeatures, 3));
  EXPECT_EQ(engine.doorbells.size(), 3u);
  ASSERT_EQ(engine.irqfds.size(), 3u);
  for (const auto &[fd, data] : engine.irqfds)
    EXPECT_TRUE(data > GuestDriver::kMessage && data <= GuestDriver::kMessage + 3);
  card.driver->mask_vector(1, true);
  EXPECT_EQ(engine.irqfds.size(), 2u);
  card.driver->mask_vector(1, false);
  EXPECT_EQ(engine.irqfds.size(), 3u);
  card.driver->reset();
  EXPECT_TRUE(engine.irqfds.empty());
  card.pc->function->disconnect();
  EXPECT_TRUE(engine.doorbells.empty());
}

TEST_F(VhostUserNetTest, ATooShortCommandNeedsAReset) {
  Card card(socket);
  ASSERT_TRUE(card.driver->start(kFeatures, 3));
  card.driver->queue(2).add(std::array{Piece{card.pc->allocate(1), 1, false}, Piece{card.pc->allocate(1), 1, true}});
  card.driver->kick(2);
  EXPECT_TRUE(card.pc->interrupts.wait_message(GuestDriver::kMessage));
  EXPECT_TRUE(card.driver->status() & GuestDriver::kNeedsReset);
}

TEST_F(VhostUserNetTest, StateRoundTrip) {
  Card card(socket, 2), other(directory.path + "/other.sock", 2);
  ASSERT_TRUE(card.driver->start(kFeatures | net::kMq, 5));
  const auto fresh = other.net->save();
  EXPECT_EQ(card.command(4, {4, 0, 2, 0}), 0);
  const auto saved = card.net->save();
  EXPECT_NE(saved, fresh);
  ASSERT_TRUE(other.net->load(saved));
  EXPECT_EQ(other.net->save(), saved);
  auto hostile = saved;
  hostile[6] = 99; // queue pairs
  EXPECT_FALSE(other.net->load(hostile));
  EXPECT_FALSE(other.net->load(std::span(saved).first(3)));
}

// A back end that answers the first message with the given bytes and then closes.
class RudeBackend {
public:
  RudeBackend(const std::string &path, std::vector<u8> answer)
      : listener_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    std::memcpy(address.sun_path, path.data(), path.size());
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address), 0);
    EXPECT_EQ(listen(listener_.get(), 4), 0);
    thread_ = std::jthread([this, answer = std::move(answer)] {
      for (;;) {
        const Fd peer(accept(listener_.get(), nullptr, nullptr));
        if (!peer) return;
        std::array<u8, 12> request;
        if (recv(peer.get(), request.data(), request.size(), MSG_WAITALL) > 0) ++served;
        (void)!::write(peer.get(), answer.data(), answer.size());
      }
    });
  }
  ~RudeBackend() { shutdown(listener_.get(), SHUT_RDWR); }
  std::atomic<unsigned> served = 0;

private:
  Fd listener_;
  std::jthread thread_;
};

std::vector<u8> words(std::initializer_list<u32> list) {
  std::vector<u8> bytes;
  for (const u32 w : list)
    for (unsigned i = 0; i < 4; ++i) bytes.push_back(static_cast<u8>(w >> i * 8));
  return bytes;
}

TEST_F(VhostUserNetTest, RudeBackEndsAreLeftAndTriedAgain) {
  const std::vector<std::vector<u8>> answers = {
      {},                              // nothing
      {1},                             // a part of a header
      words({2, 5, 8, 0, 1}),          // the answer to another message
      words({1, 1, 8, 0, 1}),          // no answer
      words({1, 5, 0xffffffff, 0, 1}), // a huge answer
      words({1, 5, 8, 0, 0}),          // a back end from before virtio 1
      words({1, 5, 8, 0xffffffff, 1}), // gone in the middle
  };
  for (const auto &answer : answers) {
    const std::string path = socket + std::to_string(&answer - answers.data());
    RudeBackend backend(path, answer);
    Card card(path);
    EXPECT_TRUE(eventually([&] { return backend.served >= 2; })) << "tried again";
    EXPECT_EQ(card.status(), 0u);
    EXPECT_TRUE(card.driver->start(kFeatures, 3));
    EXPECT_EQ(card.command(2, {0, 0, 0}), 0) << "the card works on without";
  }
}

} // namespace
} // namespace abyme::virtio
