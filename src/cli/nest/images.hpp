#pragma once
#include "cli/nest/options.hpp"
#include "image/kernel.hpp"
#include <vector>

namespace abyme::cli::nest {

// What L1 boots; the levels inside it are in its initrd, each in the one before.
struct Images {
  image::Kernel kernel;
  std::filesystem::path initrd;
  u64 memory_mib = 0; // of L1
};

[[nodiscard]] Result<Images> make_images(const Options &options);

// The kernel command line of every level. The console, the end by reset after a panic, and no probing for what our
// machines do not have; nothing that makes the kernel do less than it does elsewhere.
[[nodiscard]] std::string command_line();

} // namespace abyme::cli::nest
