#pragma once
#include "base/result.hpp"
#include <nlohmann/json.hpp>

namespace abyme::net {

// One request to a running switch; its result, or its error.
[[nodiscard]] Result<nlohmann::json> control_request(const std::string &path, const nlohmann::json &request);

// Copies a capture to a file ("-" or empty: standard output) until the switch ends it or the process is interrupted.
[[nodiscard]] Result<void> control_capture(const std::string &path, const std::string &target,
                                           const std::string &filter, const std::string &file);

} // namespace abyme::net
