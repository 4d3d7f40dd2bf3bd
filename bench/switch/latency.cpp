// One frame at a time through the whole switch process, from the driver's kick at one guest to the used ring of
// another: first on a busy switch (it polls), then on an idle one (it sleeps and is woken).
#include "net/control/daemon.hpp"
#include "net/ports/sockets.hpp"
#include "net/switch/rig.hpp"
#include "net/vhost/driver.hpp"
#include "net/vhost/features.hpp"
#include <algorithm>
#include <atomic>
#include <filesystem>
#include <thread>

using namespace abyme;
using namespace abyme::net;

namespace {

constexpr u64 kRx = 0x10000, kTx = 0x20000, kBuffer = 0x100000;

class Peer {
public:
  explicit Peer(const std::string &path) {
    auto fd = connect_unix(path);
    if (!fd) throw std::runtime_error(fd.error().message);
    socket_ = std::move(*fd);
    for (u16 i = 0; i < driver::kSize; i++) {
      rx_.descriptor(i) = {driver::kGuestBase + kBuffer + 0x800u * i, 0x800, VRING_DESC_F_WRITE, 0};
      rx_.offer(i);
    }
    for (auto &m : driver::handshake(guest_, feature::kVersion1 | feature::kProtocolFeatures | feature::kMergeable,
                                     driver::kUserBase + kRx, driver::kUserBase + kTx, call_.get(), kick_.get()))
      if (auto ok = send_message(socket_.get(), m); !ok) throw std::runtime_error(ok.error().message);
  }
  void send(const rig::Bytes &frame) {
    std::memset(guest_.base + 0x200000, 0, 12);
    std::memcpy(guest_.base + 0x200000 + 12, frame.data(), frame.size());
    tx_.descriptor(0) = {driver::kGuestBase + 0x200000, static_cast<u32>(frame.size()) + 12, 0, 0};
    tx_.available(tx_.available_index()) = 0;
    __atomic_store_n(&tx_.available_index(), static_cast<u16>(tx_.available_index() + 1), __ATOMIC_SEQ_CST);
    const u64 one = 1;
    if (!(__atomic_load_n(&guest_.at<u16>(kTx + 0x2000), __ATOMIC_SEQ_CST) & VRING_USED_F_NO_NOTIFY))
      (void)!write(kick_.get(), &one, sizeof one);
  }
  [[nodiscard]] u16 received() { return __atomic_load_n(&guest_.at<u16>(kRx + 0x2002), __ATOMIC_ACQUIRE); }
  void give_back() { rx_.offer(static_cast<u16>(rx_.used(static_cast<u16>(received() - 1)).id)); }

private:
  driver::Guest guest_;
  driver::SplitQueue rx_{guest_, kRx}, tx_{guest_, kTx};
  Fd call_{eventfd(0, EFD_NONBLOCK)}, kick_{eventfd(0, EFD_NONBLOCK)}, socket_;
};

void measure(const char *name, Peer &a, Peer &b, int count, std::chrono::microseconds pause) {
  HostClock clock;
  const auto frame = rig::frame(MacAddress{0x5254'0000'0002}, MacAddress{0x5254'0000'0001});
  std::vector<Nanoseconds> took;
  for (int i = 0; i < count; i++) {
    if (pause.count()) std::this_thread::sleep_for(pause);
    const u16 before = b.received();
    const Nanoseconds start = clock.now();
    a.send(frame);
    while (b.received() == before && clock.now() - start < 1'000'000'000) {
    }
    took.push_back(clock.now() - start);
    b.give_back();
  }
  std::ranges::sort(took);
  for (const double p : {50.0, 90.0, 99.0})
    fmt::print("latency\t{}, 64 B, percentile {}\t{:.2f}\tus\n", name, p,
               static_cast<double>(took[static_cast<std::size_t>(p / 100 * static_cast<double>(took.size() - 1))]) /
                   1000);
}

} // namespace

int main() {
  char name[] = "/tmp/abyme-latency-XXXXXX";
  const std::string directory = mkdtemp(name);
  HostClock clock;
  Daemon daemon(clock);
  const auto tree = read_config_text(fmt::format(R"(
switches: {{core: {{}}}}
port_groups: {{lan: {{switch: core, vlan: 10, mac_learning: {{enabled: true}}}}}}
ports:
  a: {{port_group: lan, kind: vhost-user, path: {0}/a, mac: "52:54:00:00:00:01"}}
  b: {{port_group: lan, kind: vhost-user, path: {0}/b, mac: "52:54:00:00:00:02"}}
)",
                                                 directory),
                                     "latency");
  if (auto ok = daemon.load(*tree, ""); !ok) return fmt::print(stderr, "{}\n", ok.error().message), 1;
  std::atomic<bool> stop = false;
  std::thread thread([&] {
    while (!stop) daemon.loop().step(10'000'000);
  });
  {
    Peer a(directory + "/a"), b(directory + "/b");
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    measure("switch busy", a, b, 20'000, std::chrono::microseconds(0));
    measure("switch idle", a, b, 1'000, std::chrono::microseconds(500));
  }
  stop = true;
  thread.join();
  std::filesystem::remove_all(directory);
}
