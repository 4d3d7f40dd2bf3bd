#pragma once
#include <string>

namespace abyme::cli::nest {

constexpr unsigned kMaxLevels = 4;

enum class Vmm { Abyme, Qemu };

// What the user asked for.
struct Options {
  unsigned levels = 2;
  Vmm inner = Vmm::Abyme; // the VMM inside the levels
  Vmm outer = Vmm::Abyme; // the VMM of L1; QEMU's software CPU to compare with
  std::string accel = "auto";
  std::string kernel = "linux-image-cloud-amd64";
  unsigned cpus = 1;   // of every level
  std::string program; // a static executable that every level runs, with arguments; may be empty
  std::string stats;   // file for figures about L1's run; may be empty
  std::string log;     // file for all that the consoles say; may be empty
  unsigned timeout_seconds = 900;
  bool json = false;
};

} // namespace abyme::cli::nest
