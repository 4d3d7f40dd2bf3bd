#pragma once
#include "base/fd.hpp"
#include "devices/virtio/queue.hpp"
#include <memory>
#include <string>

namespace abyme::virtio {

// One ring as the back end is to serve it.
struct VhostRing {
  u16 index;
  QueueSetup setup;
  u16 next_available;
  int kick_fd, call_fd;
};

// A connected vhost-user back end, spoken to as the protocol's front-end (the vhost-user specification in QEMU's
// docs/interop). Each method waits for the answer, at most kPatience seconds. After an error the connection is of no
// more use.
class VhostUserBackend {
public:
  static constexpr int kPatience = 5;
  // Connects and learns what the back end can do.
  [[nodiscard]] static Result<std::unique_ptr<VhostUserBackend>> connect(const std::string &path);
  [[nodiscard]] u64 features() const { return features_; } // virtio feature bits
  [[nodiscard]] u64 queue_pairs() const { return queue_pairs_; }
  [[nodiscard]] int fd() const { return socket_.get(); } // readable for HUP only

  [[nodiscard]] Result<void> start(GuestMemory &memory, u64 features, std::span<const VhostRing> rings);
  [[nodiscard]] Result<void> enable(u16 ring, bool on);
  // Stops a ring: after it the back end touches no memory for it. Returns the next available index.
  [[nodiscard]] Result<u16> stop(u16 ring);
  // Lets go of a back end that does not answer: it sees the connection end.
  void shut_down();

private:
  VhostUserBackend(Fd socket, std::string path) : socket_(std::move(socket)), path_(std::move(path)) {}
  enum class Request : u32;
  [[nodiscard]] Result<void> negotiate();
  [[nodiscard]] Result<void> send(Request request, std::span<const u8> payload, std::span<const int> fds,
                                  bool need_reply);
  [[nodiscard]] Result<void> receive(Request request, std::span<u8> payload);
  [[nodiscard]] Result<void> read_exactly(std::span<u8> to);
  [[nodiscard]] Result<u64> get(Request request);
  [[nodiscard]] Result<void> set(Request request, std::span<const u8> payload, std::span<const int> fds = {});
  [[nodiscard]] Result<void> set_u64(Request request, u64 value, std::span<const int> fds = {});
  [[nodiscard]] Result<void> set_memory(GuestMemory &memory);
  [[nodiscard]] Result<void> set_ring(GuestMemory &memory, const VhostRing &ring);
  [[nodiscard]] std::unexpected<Error> broken(Request request, std::string_view what) const;

  Fd socket_;
  std::string path_;
  u64 features_ = 0;
  u64 protocol_features_ = 0;
  u64 queue_pairs_ = 1;
};

} // namespace abyme::virtio
