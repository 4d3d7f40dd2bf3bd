#pragma once
#include "base/int.hpp"
#include "base/result.hpp"
#include <filesystem>
#include <vector>

namespace abyme::image {

[[nodiscard]] Result<std::vector<u8>> read_file(const std::filesystem::path &path);

} // namespace abyme::image
