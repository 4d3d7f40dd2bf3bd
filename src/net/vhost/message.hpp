#pragma once
#include "base/fd.hpp"
#include "base/int.hpp"
#include "base/result.hpp"
#include <cstring>
#include <optional>
#include <span>
#include <vector>

namespace abyme::net {

// The vhost-user protocol's requests from the front-end, by their names and numbers in QEMU's
// docs/interop/vhost-user.rst.
enum class VhostRequest : u32 {
  GetFeatures = 1,
  SetFeatures = 2,
  SetOwner = 3,
  ResetOwner = 4,
  SetMemTable = 5,
  SetLogBase = 6,
  SetLogFd = 7,
  SetVringNum = 8,
  SetVringAddr = 9,
  SetVringBase = 10,
  GetVringBase = 11,
  SetVringKick = 12,
  SetVringCall = 13,
  SetVringErr = 14,
  GetProtocolFeatures = 15,
  SetProtocolFeatures = 16,
  GetQueueNum = 17,
  SetVringEnable = 18,
  SendRarp = 19,
  NetSetMtu = 20,
  ResetDevice = 34,
  GetMaxMemSlots = 36,
  AddMemReg = 37,
  RemMemReg = 38,
  SetStatus = 39,
  GetStatus = 40,
};

struct VhostMessage {
  static constexpr u32 kVersion = 1, kReply = 4, kNeedReply = 8;
  VhostRequest request{};
  u32 flags = kVersion;
  std::vector<u8> payload;
  std::vector<Fd> fds;

  // A number at an offset of the payload; the caller has checked the size.
  template <class T> [[nodiscard]] T get(std::size_t offset) const {
    T value;
    std::memcpy(&value, payload.data() + offset, sizeof value);
    return value;
  }
  template <class T> void put(const T &value) {
    const std::size_t at = payload.size();
    payload.resize(at + sizeof value);
    std::memcpy(payload.data() + at, &value, sizeof value);
  }
};

// Puts messages together from a stream socket that may deliver them byte by byte, with the descriptors that came along.
class VhostReader {
public:
  static constexpr u32 kMaxPayload = 4096;
  static constexpr std::size_t kMaxFds = 16;
  struct Step {
    std::optional<VhostMessage> message;
    bool closed = false;
  };
  // One message if there is a whole one; an Error when what came can be none.
  [[nodiscard]] Result<Step> read(int socket);

private:
  [[nodiscard]] Result<bool> receive(int socket, u8 *to, std::size_t wanted); // false: nothing more for now, or closed_
  std::vector<u8> bytes_;
  std::vector<Fd> fds_;
  bool closed_ = false;
};

[[nodiscard]] Result<void> send_message(int socket, const VhostMessage &message);

} // namespace abyme::net
