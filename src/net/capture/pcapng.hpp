#pragma once
#include "base/clock.hpp"
#include "base/int.hpp"
#include <span>
#include <string>
#include <string_view>
#include <vector>

// Blocks of the pcapng format (IETF draft-ietf-opsawg-pcapng), little-endian.
namespace abyme::net::pcapng {

using Bytes = std::vector<u8>;

struct Packet {
  u32 interface = 0;
  u64 nanoseconds = 0; // since 1970
  std::span<const u8> bytes;
  u32 original_length = 0;
  bool inbound = true;
  std::string_view comment;
};

void section(Bytes &out, std::string_view application);
void interface(Bytes &out, std::string_view name,
               std::string_view description); // numbered in order, Ethernet, nanoseconds
void packet(Bytes &out, const Packet &p);

} // namespace abyme::net::pcapng
