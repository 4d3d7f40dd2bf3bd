// Any bytes as a vhost-user front-end's messages, cut anywhere, some with descriptors of a shared memory; queues that
// start are polled.
#include "input.hpp"
#include "net/vhost/net_device.hpp"
#include <cstdlib>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace abyme;
using namespace abyme::net;

namespace {

class Owner final : public NetDeviceOwner {
public:
  void kick_changed(unsigned) override {}
  void queues_changed() override {}
  void rarp_asked(MacAddress) override {}
};

void poll_queues(VhostNetDevice &device) {
  static FrameBatch batch;
  for (unsigned i = 0; i < device.queue_count(); i++) {
    auto &q = device.queue(i);
    if (!q.running) continue;
    batch.clear();
    if (q.ring.receive(device.memory(), device.net(), batch) == NetRing::Health::Broken) device.stop(i);
  }
}

// The bulk of what a message of each kind needs to get far: sizes that fit, a valid header.
VhostMessage message(fuzz::Input &in, int memory, int event) {
  VhostMessage m;
  m.request = VhostRequest{in.take<u8>() % 42u};
  if (in.take<u8>() & 1) m.flags |= VhostMessage::kNeedReply;
  const auto payload = in.bytes(in.take<u8>() % 80);
  m.payload.assign(payload.begin(), payload.end());
  for (unsigned n = in.take<u8>() % 3; n--;) m.fds.emplace_back(dup(in.take<u8>() & 1 ? memory : event));
  return m;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8 *data, std::size_t size) {
  static const Fd memory(memfd_create("fuzz", 0)), event(eventfd(0, EFD_NONBLOCK));
  static const bool sized = ftruncate(memory.get(), 64_KiB) == 0;
  if (!sized) std::abort();
  fuzz::Input in(data, size);
  Owner owner;
  VhostNetDevice device(2, owner);
  if (in.take<u8>() & 1) { // as raw bytes over a socket
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) std::abort();
    const Fd ours(pair[0]), theirs(pair[1]);
    VhostReader reader;
    while (!in.empty()) {
      const auto piece = in.bytes(in.take<u8>() + 1);
      if (!piece.empty() && write(theirs.get(), piece.data(), piece.size()) < 0) return 0;
      while (true) {
        auto step = reader.read(ours.get());
        if (!step) return 0;
        if (!step->message) break;
        if (!device.handle(std::move(*step->message))) return 0;
        poll_queues(device);
      }
    }
    return 0;
  }
  while (!in.empty()) {
    (void)device.handle(message(in, memory.get(), event.get()));
    poll_queues(device);
  }
  return 0;
}
