#pragma once
#include "base/int.hpp"
#include <concepts>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

// Little-endian fields at offsets of a byte string: how files and firmware tables are read and written.
namespace abyme::machine {

using ByteView = std::span<const u8>;
using Bytes = std::vector<u8>;

// The part of `bytes` at [offset, offset + size), unless some of it is missing.
[[nodiscard]] inline std::optional<ByteView> slice(ByteView bytes, u64 offset, u64 size) {
  if (offset > bytes.size() || size > bytes.size() - offset) return std::nullopt;
  return bytes.subspan(offset, size);
}

template <std::unsigned_integral T> [[nodiscard]] std::optional<T> read_le(ByteView bytes, u64 offset) {
  const auto part = slice(bytes, offset, sizeof(T));
  if (!part) return std::nullopt;
  T value;
  std::memcpy(&value, part->data(), sizeof value);
  return value;
}

// The field must lie within `bytes`, which the caller has made.
template <std::unsigned_integral T> void put_le(Bytes &bytes, u64 offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

template <std::unsigned_integral T> void append_le(Bytes &bytes, T value) {
  bytes.resize(bytes.size() + sizeof value);
  put_le(bytes, bytes.size() - sizeof value, value);
}

inline void append(Bytes &bytes, ByteView more) { bytes.insert(bytes.end(), more.begin(), more.end()); }
inline void append_text(Bytes &bytes, std::string_view text) { bytes.insert(bytes.end(), text.begin(), text.end()); }

} // namespace abyme::machine
