#pragma once
#include "base/int.hpp"
#include "base/result.hpp"
#include <filesystem>
#include <span>
#include <vector>

namespace abyme::image {

// The shared libraries of an ELF executable and its interpreter, as the dynamic linker of this host finds them. Empty
// for a static one.
[[nodiscard]] Result<std::vector<std::filesystem::path>> libraries_of(const std::filesystem::path &executable);

// The part of an ELF file that is loaded: without section headers and debug information, which can be most of it.
// What is not a 64-bit ELF file comes back as it is.
[[nodiscard]] std::vector<u8> without_debug(std::span<const u8> file);

} // namespace abyme::image
