#pragma once
#include "base/int.hpp"
#include "image/kernel.hpp"
#include <string>
#include <vector>

namespace abyme::system_test {

// What a guest finds in its initramfs, besides busybox: init mounts the usual file systems, loads the modules, runs the
// script and powers off.
struct GuestImage {
  struct Program {
    std::string host, guest;
  };
  struct File {
    std::string guest;
    std::vector<u8> content;
  };
  std::string script;
  std::vector<std::string> modules{}; // of `kernel`, with what they need
  std::vector<Program> programs{};
  std::vector<File> files{};
};

[[nodiscard]] Result<std::vector<u8>> make_initramfs(const image::Kernel &kernel, const GuestImage &guest);

// Adds what a guest needs to run `next` with abyme on KVM: /bin/abyme, /vmlinuz, /next and the modules.
[[nodiscard]] Result<void> add_hypervisor(GuestImage &guest, const image::Kernel &kernel, const GuestImage &next);

} // namespace abyme::system_test
