#pragma once
#include "net/ports/device.hpp"

namespace abyme::net {

// Reading a port's options, with errors that name the key.
[[nodiscard]] Result<std::string> text_option(const PortOptions &o, std::string_view key);
[[nodiscard]] Result<std::string> text_option(const PortOptions &o, std::string_view key, std::string_view otherwise);
[[nodiscard]] Result<u64> number_option(const PortOptions &o, std::string_view key, u64 otherwise, u64 lowest,
                                        u64 highest);
[[nodiscard]] Result<bool> flag_option(const PortOptions &o, std::string_view key, bool otherwise);

} // namespace abyme::net
