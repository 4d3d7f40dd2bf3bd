#pragma once
#include "bus/bus.hpp"
#include "bus/interrupt_relay.hpp"
#include "bus/power_signals.hpp"
#include "machine/boot/boot.hpp"
#include "machine/ended.hpp"
#include "machine/engine_choice.hpp"
#include "machine/pc_devices.hpp"
#include "machine/pci_devices.hpp"
#include <atomic>
#include <thread>

namespace abyme::machine {

// What a machine borrows; all of it outlives the machine, and serves the next one after a reset.
struct HostSide {
  EventLoop &loop;
  TimerService &timers;
  Console &serial;
  Console *hypervisor; // where there is one
};

// A PC from power-on to its end. A reset is the end of one machine and the start of another.
class Machine final : private PowerSignals {
public:
  [[nodiscard]] static Result<std::unique_ptr<Machine>> build(const MachineConfig &config, const EngineChoice &choice,
                                                              const HostSide &host);
  ~Machine() override;
  Machine(const Machine &) = delete;
  Machine &operator=(const Machine &) = delete;

  // Runs the vCPUs, each on a thread of its own, and the event loop on the caller's, until the end. Once.
  [[nodiscard]] Ended run();
  // Ends it. The first reason counts. Any thread, also before run() and from within a device.
  void end(Ended ended);
  // Retired by all vCPUs, where the engine counts them. After run().
  [[nodiscard]] u64 instructions() const;

private:
  explicit Machine(const HostSide &host) : host_(host) {}
  [[nodiscard]] Result<void> set_up(const MachineConfig &config, const EngineChoice &choice);
  [[nodiscard]] Result<void> load_kernel(const MachineConfig &config);
  void run_vcpu(unsigned index);

  void power_off() override { end({.why = Ended::Why::PowerOff}); }
  void reset() override { end({.why = Ended::Why::Reset}); }
  void debug_exit(u8 value) override { end({.why = Ended::Why::DebugExit, .value = value}); }

  HostSide host_;
  unsigned cpus_ = 1;
  std::unique_ptr<GuestMemory> memory_;
  InterruptRelay interrupts_;
  Bus bus_;
  std::unique_ptr<Engine>
      engine_; // made after the devices and destroyed after them: their threads interrupt it to the last
  std::unique_ptr<PcDevices> pc_;
  std::unique_ptr<PciDevices> pci_;
  std::mutex end_mutex_;
  std::optional<Ended> ended_; // under end_mutex_
  std::vector<std::jthread> vcpu_threads_;
};

} // namespace abyme::machine
