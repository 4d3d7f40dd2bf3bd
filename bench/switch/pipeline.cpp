// The in-memory pipeline alone: classify, policy, lookup, deliver, account; no rings, sinks that only count.
#include "net/switch/switch.hpp"
#include <algorithm>
#include <array>
#include <ctime>
#include <fmt/format.h>
#include <memory>
#include <random>
#include <string_view>
#include <vector>

using namespace abyme;
using namespace abyme::net;

namespace {

class CountingSink final : public PortSink {
public:
  void transmit(std::span<Egress> frames) override { count += frames.size(); }
  u64 count = 0;
};

struct Case {
  const char *name;
  unsigned ports, macs;
  u32 bytes;
  bool imix = false;
};

constexpr VlanId kVlan{10};

PortRules rules(bool with_learning) {
  PortRules r;
  r.vlan = make_vlan_rules({.mode = VlanMode::Access, .access = kVlan}, {});
  r.learning.enabled = with_learning;
  r.learning.limit = 100'000;
  r.security.forged_transmits = with_learning;
  r.storm_limit = 1000;
  return r;
}

MacAddress mac(unsigned n) { return {u64{0x0200'0000'0000} + n}; }

using Addresses = std::array<u8, 12>; // destination and source

// Addresses of the frames to come, sender by sender: bursts of 64 from one port.
std::vector<Addresses> make_addresses(const Case &c) {
  std::mt19937 random(7);
  const unsigned per_port = std::max(1u, c.macs / c.ports);
  const unsigned bursts = std::max(2 * c.macs / FrameBatch::kFrames + 1, 64u) / c.ports * c.ports + c.ports;
  std::vector<Addresses> out(bursts * FrameBatch::kFrames);
  for (unsigned i = 0; i < out.size(); i++) {
    const unsigned from = i / FrameBatch::kFrames % c.ports;
    const unsigned to = (from + 1 + random() % (c.ports - 1)) % c.ports;
    mac(to * per_port + random() % per_port).store(&out[i][0]);
    mac(from * per_port + random() % per_port).store(&out[i][6]);
  }
  return out;
}

// A burst whose bytes are near, as after the copy from a ring.
void fill(FrameBatch &batch, const Case &c) {
  for (unsigned i = 0; i < FrameBatch::kFrames; i++) {
    const u32 length = !c.imix ? c.bytes : i % 12 < 7 ? 64 : i % 12 < 11 ? 594 : 1518;
    std::vector<u8> bytes(length - 4); // a frame's length counts its check sequence, which no ring carries
    bytes[12] = 8;
    (void)batch.add(bytes);
  }
}

// The thread's own time: what a core does, whoever else wants it.
Nanoseconds cpu_time() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<Nanoseconds>(t.tv_sec * 1'000'000'000 + t.tv_nsec);
}

double run(const Case &c) {
  HostClock clock;
  SwitchSettings settings;
  settings.table_size = 131072;
  Switch sw(settings, clock, 0x1234'5678'9abc, nullptr);
  std::vector<std::unique_ptr<CountingSink>> sinks;
  const unsigned per_port = std::max(1u, c.macs / c.ports);
  for (unsigned p = 0; p < c.ports; p++) {
    sinks.push_back(std::make_unique<CountingSink>());
    const auto index = sw.attach(rules(true), mac(0xffff00 + p), *sinks.back());
    sw.set_connected(index, true);
  }
  for (unsigned m = 0; m < per_port * c.ports; m++) {
    std::vector<u8> bytes(60);
    kBroadcast.store(&bytes[0]);
    mac(m).store(&bytes[6]);
    FrameBatch one;
    (void)one.add(bytes);
    sw.input(PortIndex{static_cast<u16>(m / per_port)}, one.frames());
  }
  const auto addresses = make_addresses(c);
  FrameBatch batch;
  fill(batch, c);
  unsigned next = 0;
  std::vector<double> rates;
  for (int round = 0; round < 5; round++) {
    const Nanoseconds start = cpu_time(), end = start + 200'000'000;
    u64 frames = 0;
    Nanoseconds now = start;
    while (now < end) {
      for (int i = 0; i < 64; i++) {
        const PortIndex from{static_cast<u16>(next / FrameBatch::kFrames % c.ports)};
        for (Frame &f : batch.frames()) std::memcpy(f.data, addresses[next++].data(), 12);
        sw.input(from, batch.frames());
        frames += batch.size();
        if (next == addresses.size()) next = 0;
      }
      now = cpu_time();
    }
    rates.push_back(static_cast<double>(frames) * 1e3 / static_cast<double>(now - start));
  }
  std::ranges::sort(rates);
  return rates[rates.size() / 2];
}

} // namespace

// With an argument, only the cases whose names contain it.
int main(int argc, char **argv) {
  static constexpr Case kCases[] = {
      {"2 ports, 2 MACs, 64 B", 2, 2, 64},
      {"2 ports, 2 MACs, IMIX", 2, 2, 64, true},
      {"2 ports, 2 MACs, 1500 B", 2, 2, 1518},
      {"16 ports, 1000 MACs, 64 B", 16, 1000, 64},
      {"64 ports, 64 MACs, 64 B", 64, 64, 64},
      {"64 ports, 10k MACs, 64 B", 64, 10'000, 64},
      {"64 ports, 100k MACs, 64 B", 64, 100'000, 64},
  };
  for (const Case &c : kCases)
    if (argc < 2 || std::string_view(c.name).find(argv[1]) != std::string_view::npos)
      fmt::print("pipeline\t{}\t{:.2f}\tMfps/core\n", c.name, run(c));
}
