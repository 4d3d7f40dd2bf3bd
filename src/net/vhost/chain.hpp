#pragma once
#include "net/vhost/memory.hpp"
#define VIRTIO_RING_NO_LEGACY // the header's legacy helpers are C only
#include <linux/virtio_ring.h>
#undef VIRTIO_RING_NO_LEGACY
#include <cstring>
#include <vector>

namespace abyme::net {

constexpr u16 kMaxQueueSize = 4096;

// The buffers of one descriptor chain, each checked to lie in the guest's memory.
struct Chain {
  u16 id = 0;          // what the used entry names
  u16 descriptors = 0; // of the ring (packed rings count them)
  u32 bytes = 0;
  std::vector<std::span<u8>> pieces;
  void clear() {
    pieces.clear();
    bytes = descriptors = 0;
  }
};

// Reads an entry of a guest's table, at any alignment, exactly once: the barrier keeps the compiler from going back to
// memory that may have changed.
template <class T> [[nodiscard]] T fetch(const u8 *table, u32 index) {
  T value;
  std::memcpy(&value, table + std::size_t{index} * sizeof value, sizeof value);
  asm volatile("" : "+m"(value));
  return value;
}

enum class Next : u8 { Got, Empty, Broken };

// Adds a guest buffer to the chain; false when it is not all memory or the chain grows absurd.
[[nodiscard]] inline bool add_buffer(const GuestMemory &memory, Chain &chain, u64 address, u32 length) {
  constexpr u32 kMaxChainBytes = 16u << 20;
  if (length > kMaxChainBytes || chain.bytes + length > kMaxChainBytes) return false;
  while (length) {
    const auto piece = memory.some(address, length);
    if (piece.empty()) return false;
    chain.pieces.push_back(piece);
    chain.bytes += static_cast<u32>(piece.size());
    address += piece.size();
    length -= static_cast<u32>(piece.size());
  }
  return true;
}

} // namespace abyme::net
