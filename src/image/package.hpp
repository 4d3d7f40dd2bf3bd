#pragma once
#include "image/cache.hpp"

namespace abyme::image {

// A Debian package's content in the cache, downloaded by apt where it is not there yet: nothing is installed, and no
// privilege is needed.
[[nodiscard]] Result<std::filesystem::path> package_folder(const Cache &cache, const std::string &package);

// The package that a kernel metapackage stands for now ("linux-image-cloud-amd64": "linux-image-6.1.0-37-cloud-amd64");
// the name itself if it depends on no kernel.
[[nodiscard]] Result<std::string> resolve_kernel_package(const std::string &package);

} // namespace abyme::image
