#pragma once
#include "base/int.hpp"
#include "machine/console/console.hpp"
#include "soft/trace.hpp"
#include <array>
#include <optional>
#include <string>
#include <vector>

namespace abyme::machine {

enum class Accel { Auto, Kvm, Soft };

struct DiskConfig {
  std::string path;
  bool read_only = false;
  bool operator==(const DiskConfig &) const = default;
};

using MacAddress = std::array<u8, 6>;

struct NetConfig {
  std::string socket; // where a vhost-user back end listens
  MacAddress mac{};
  bool operator==(const NetConfig &) const = default;
};

// A VM, as its user describes it.
struct MachineConfig {
  std::string kernel;
  std::optional<std::string> initrd;
  std::string command_line;
  unsigned cpus = 1;
  u64 memory = 512_MiB;
  std::string cpu; // MODEL[,+feature,-feature]...; empty: the default model
  Accel accel = Accel::Auto;
  std::vector<DiskConfig> disks; // vda, vdb, ...
  std::vector<NetConfig> nets;
  ConsoleSpec serial;                    // ttyS0
  std::optional<ConsoleSpec> hypervisor; // hvc0: virtio-console
  bool test_devices = false;
  bool no_reboot = false;
  std::optional<soft::TraceOptions> trace;
};

constexpr unsigned kMaxCpus = 16;

} // namespace abyme::machine
