#pragma once
#include "base/int.hpp"
#include "base/result.hpp"
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

namespace abyme::virtio {

// A device's State struct as the bytes that the transport keeps for it.
template <class State> [[nodiscard]] std::vector<u8> to_bytes(const State &state) {
  static_assert(std::is_trivially_copyable_v<State> && std::has_unique_object_representations_v<State>);
  std::vector<u8> bytes(sizeof state);
  std::memcpy(bytes.data(), &state, sizeof state);
  return bytes;
}

template <class State> [[nodiscard]] Result<State> from_bytes(std::string_view device, std::span<const u8> bytes) {
  static_assert(std::is_trivially_copyable_v<State>);
  State state;
  if (bytes.size() != sizeof state)
    return fail("{}: its saved state has {} bytes; {} are right", device, bytes.size(), sizeof state);
  std::memcpy(&state, bytes.data(), sizeof state);
  return state;
}

} // namespace abyme::virtio
