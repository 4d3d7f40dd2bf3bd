#pragma once
#include "base/int.hpp"
#include <cstring>

// Big-endian fields at any alignment.
namespace abyme::net {

[[nodiscard]] inline u16 load_be16(const u8 *p) { return static_cast<u16>(p[0] << 8 | p[1]); }
[[nodiscard]] inline u32 load_be32(const u8 *p) { return u32{load_be16(p)} << 16 | load_be16(p + 2); }
inline void store_be16(u8 *p, u16 v) {
  p[0] = static_cast<u8>(v >> 8);
  p[1] = static_cast<u8>(v);
}
inline void store_be32(u8 *p, u32 v) {
  store_be16(p, static_cast<u16>(v >> 16));
  store_be16(p + 2, static_cast<u16>(v));
}

} // namespace abyme::net
