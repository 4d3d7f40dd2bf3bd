#pragma once
#include "machine/config.hpp"

// The texts that options of `abyme run` take, parsed. Each error names what would be right.
namespace abyme::machine {

// "512M", "4G", "65536K": whole 4 KiB pages from 16 MiB to 64 GiB.
[[nodiscard]] Result<u64> parse_memory(std::string_view text);
// FILE[,ro]
[[nodiscard]] Result<DiskConfig> parse_disk(std::string_view text);
// vhost-user:PATH[,mac=XX:XX:XX:XX:XX:XX]; without a MAC address one that the path alone decides.
[[nodiscard]] Result<NetConfig> parse_net(std::string_view text);
[[nodiscard]] Result<Accel> parse_accel(std::string_view text);
// KIND[,KIND...][,level=1|2][,rip=FIRST[-LAST]][,file=PATH], addresses in hexadecimal.
[[nodiscard]] Result<soft::TraceOptions> parse_trace(std::string_view text);

} // namespace abyme::machine
