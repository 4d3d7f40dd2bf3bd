#pragma once
#include "image/cache.hpp"

namespace abyme::image {

// A kernel that levels boot.
struct Kernel {
  std::filesystem::path file;    // a bzImage
  std::string version;           // "6.1.0-37-cloud-amd64"
  std::filesystem::path modules; // its lib/modules/VERSION; empty if none was found
  std::string origin;            // for people: where it comes from
};

// `name`: a Debian package ("linux-image-cloud-amd64"), or a bzImage file, whose modules are looked for beside it and
// in /lib/modules. A package that cannot be had is replaced by the running kernel's files, which `origin` says.
[[nodiscard]] Result<Kernel> find_kernel(const Cache &cache, const std::string &name);

// What a bzImage says of itself (Linux x86 boot protocol, field kernel_version), up to the first space.
[[nodiscard]] Result<std::string> kernel_version(const std::filesystem::path &file);

} // namespace abyme::image
