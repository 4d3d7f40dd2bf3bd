#pragma once
#include "base/int.hpp"
#include "base/result.hpp"
#include <filesystem>
#include <string>
#include <vector>

namespace abyme::image {

struct Module {
  std::string name;       // "kvm_intel"
  std::vector<u8> object; // the .ko, uncompressed
};

// These modules and all that they need, in an order in which insmod takes them. `folder` is a lib/modules/VERSION. What
// is built into the kernel (modules.builtin) is left out.
[[nodiscard]] Result<std::vector<Module>> load_modules(const std::filesystem::path &folder,
                                                       const std::vector<std::string> &names);

} // namespace abyme::image
