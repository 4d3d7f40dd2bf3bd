// Any bytes as a guest's memory with a virtqueue in it, split or packed, read and written as a network device does.
#include "input.hpp"
#include "net/vhost/net_ring.hpp"
#include <cstdlib>
#include <sys/mman.h>
#include <unistd.h>

using namespace abyme;
using namespace abyme::net;

namespace {

constexpr u64 kBytes = 64_KiB, kGuest = 0x10'0000, kUser = 0x7f00'0000'0000;

struct Guest {
  Guest() : file(memfd_create("fuzz", 0)) {
    if (ftruncate(file.get(), kBytes)) std::abort();
    if (!memory.add({.guest = kGuest, .size = kBytes, .user = kUser, .offset = 0}, file)) std::abort();
    bytes = memory.at(kGuest, kBytes);
  }
  Fd file;
  GuestMemory memory;
  u8 *bytes;
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8 *data, std::size_t size) {
  static Guest guest;
  fuzz::Input in(data, size);
  const u8 choice = in.take<u8>();
  const RingSetup setup{.size = static_cast<u16>(1u << (in.take<u8>() % 9)),
                        .descriptors = kUser,
                        .driver = kUser + 0x2000,
                        .device = kUser + 0x3000,
                        .indirect = static_cast<bool>(choice & 1),
                        .event_index = static_cast<bool>(choice & 2)};
  const NetFeatures features{.header = choice & 4 ? 12u : 10u,
                             .mergeable = static_cast<bool>(choice & 4),
                             .guest_offloads_checksum = true,
                             .guest_finishes = {}};
  const bool writes = choice & 8;
  std::memset(guest.bytes, 0, kBytes);
  const auto descriptors = in.bytes(512), driver = in.bytes(128);
  if (!descriptors.empty()) std::memcpy(guest.bytes, descriptors.data(), descriptors.size());
  if (!driver.empty()) std::memcpy(guest.bytes + 0x2000, driver.data(), driver.size());
  NetRing ring;
  if (!(choice & 16 ? ring.attach_packed(guest.memory, setup, in.take<u16>()) : ring.attach_split(guest.memory, setup)))
    return 0;
  static FrameBatch batch, out;
  out.clear();
  for (u32 length : {60u, 1514u, 9000u})
    if (u8 *p = out.reserve(length)) std::memset(p, 1, length), out.commit(length);
  for (int round = 0; round < 4; round++) {
    batch.clear();
    std::vector<Egress> egress;
    for (const Frame &f : out.frames()) egress.push_back({.frame = &f, .edit = TagEdit::Push});
    const auto health =
        writes ? ring.transmit(guest.memory, features, egress) : ring.receive(guest.memory, features, batch);
    (void)ring.wants_call();
    ring.want_kicks(round & 1);
    if (health == NetRing::Health::Broken) return 0;
    const u16 at = in.take<u16>() % kBytes; // the guest writes meanwhile
    guest.bytes[at] = in.take<u8>();
    guest.bytes[0x2002]++;
  }
  return 0;
}
