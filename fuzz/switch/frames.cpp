// Any bytes as frames, with any offload request, through a switch with every kind of port, snooping on; out again with
// offloads done in software.
#include "input.hpp"
#include "net/frame/offload.hpp"
#include "net/switch/switch.hpp"
#include <cstdlib>

using namespace abyme;
using namespace abyme::net;

namespace {

class FinishingSink final : public PortSink {
public:
  void transmit(std::span<Egress> frames) override {
    for (const Egress &e : frames) {
      if (supported(e.frame->offload, {})) {
        write(*e.frame, e.edit);
        continue;
      }
      finish_offloads(*e.frame, scratch_, [&](std::span<Frame> made) {
        for (const Frame &f : made) write(f, e.edit);
      });
    }
  }

private:
  void write(const Frame &f, TagEdit edit) {
    std::vector<u8> bytes(wire_length(f, edit));
    copy_wire(f, edit, bytes.data());
    if (bytes.size() < kEthernetHeader) std::abort();
  }
  FrameBatch scratch_;
};

PortRules rules(unsigned i) {
  VlanSettings v;
  v.mode = static_cast<VlanMode>(i % 4);
  v.access = VlanId{10};
  v.trunk = *parse_vlans("all");
  PortRules r;
  r.vlan = make_vlan_rules(v, {});
  r.learning = {.enabled = i % 2 == 0, .limit = 4};
  r.security.forged_transmits = i % 3 != 0;
  r.uplink = i == 5;
  return r;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8 *data, std::size_t size) {
  fuzz::Input in(data, size);
  FakeClock clock;
  SwitchSettings settings;
  settings.snooping = true;
  settings.table_size = 16;
  Switch sw(settings, clock, 1, nullptr);
  FinishingSink sink;
  constexpr unsigned kPorts = 6;
  for (unsigned i = 0; i < kPorts; i++)
    sw.set_connected(sw.attach(rules(i), MacAddress{0x5254'0000'0000u + i}, sink), true);
  FrameBatch batch;
  while (!in.empty()) {
    const PortIndex from{static_cast<u16>(in.take<u8>() % kPorts)};
    batch.clear();
    for (unsigned n = in.take<u8>() % 4 + 1; n--;) {
      Offload offload{};
      if (in.take<u8>() & 1) offload = in.take<Offload>();
      (void)batch.add(in.bytes(in.take<u8>() * 4u), offload);
    }
    sw.input(from, batch.frames());
    clock.advance(in.take<u8>() * 100'000'000ull);
    sw.tick();
  }
  return 0;
}
