#pragma once
#include "net/vhost/net_device.hpp"
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

// A guest's driver, for tests: memory with two virtqueues, and the front-end's messages that hand them to a device.
namespace abyme::net::driver {

constexpr u64 kGuestBase = 0x4000'0000, kUserBase = 0x7000'0000'0000;
constexpr u16 kSize = 64;

class Guest {
public:
  explicit Guest(u64 bytes = 4_MiB) : size(bytes), file(memfd_create("guest", MFD_CLOEXEC)) {
    if (ftruncate(file.get(), static_cast<off_t>(bytes))) std::abort();
    base = static_cast<u8 *>(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0));
  }
  ~Guest() { munmap(base, size); }
  Guest(const Guest &) = delete;
  Guest &operator=(const Guest &) = delete;
  template <class T> [[nodiscard]] T &at(u64 offset) { return *reinterpret_cast<T *>(base + offset); }
  u64 size;
  Fd file;
  u8 *base;
};

// The driver's side of one split queue at an offset of the guest's memory: descriptors, available ring, used ring, each
// on its page.
class SplitQueue {
public:
  SplitQueue(Guest &guest, u64 offset) : guest_(guest), offset_(offset) {}
  [[nodiscard]] vring_desc &descriptor(u16 i) { return guest_.at<vring_desc>(offset_ + 16u * i); }
  [[nodiscard]] u16 &available_index() { return guest_.at<u16>(offset_ + 0x1002); }
  [[nodiscard]] u16 &available(u16 i) { return guest_.at<u16>(offset_ + 0x1004 + 2u * (i % kSize)); }
  [[nodiscard]] u16 &used_event() { return guest_.at<u16>(offset_ + 0x1004 + 2u * kSize); }
  [[nodiscard]] u16 used_index() { return guest_.at<u16>(offset_ + 0x2002); }
  [[nodiscard]] vring_used_elem used(u16 i) { return guest_.at<vring_used_elem>(offset_ + 0x2004 + 8u * (i % kSize)); }
  void offer(u16 head) { available(available_index()) = head, available_index()++; }
  [[nodiscard]] u64 user() const { return kUserBase + offset_; }

private:
  Guest &guest_;
  u64 offset_;
};

inline VhostMessage message(VhostRequest request) {
  return {.request = request, .flags = VhostMessage::kVersion, .payload = {}, .fds = {}};
}

template <class... T> VhostMessage message(VhostRequest request, const T &...values) {
  auto m = message(request);
  (m.put(values), ...);
  return m;
}

// What a front-end sends to set a device up with the guest's memory and two queues, in order.
inline std::vector<VhostMessage> handshake(Guest &guest, u64 features, u64 queue0, u64 queue1, int call, int kick) {
  std::vector<VhostMessage> out;
  out.push_back(message(VhostRequest::SetOwner));
  out.push_back(message(VhostRequest::SetFeatures, features));
  auto memory = message(VhostRequest::SetMemTable, u32{1}, u32{0}, kGuestBase, guest.size, kUserBase, u64{0});
  memory.fds.emplace_back(dup(guest.file.get()));
  out.push_back(std::move(memory));
  for (u32 i = 0; i < 2; i++) {
    const u64 at = i ? queue1 : queue0;
    out.push_back(message(VhostRequest::SetVringNum, i, u32{kSize}));
    out.push_back(message(VhostRequest::SetVringBase, i, u32{features >> 34 & 1 ? 0x8000u : 0u}));
    out.push_back(message(VhostRequest::SetVringAddr, i, u32{0}, at, at + 0x2000, at + 0x1000, u64{0}));
    auto kick_message = message(VhostRequest::SetVringKick, u64{i});
    kick_message.fds.emplace_back(dup(kick));
    out.push_back(std::move(kick_message));
    auto called = message(VhostRequest::SetVringCall, u64{i});
    called.fds.emplace_back(dup(call));
    out.push_back(std::move(called));
    out.push_back(message(VhostRequest::SetVringEnable, i, u32{1}));
  }
  return out;
}

} // namespace abyme::net::driver
