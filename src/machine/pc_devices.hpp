#pragma once
#include "bus/power_signals.hpp"
#include "devices/acpi_pm/acpi_pm.hpp"
#include "devices/debug_exit/debug_exit.hpp"
#include "devices/fw_cfg/fw_cfg.hpp"
#include "devices/i8042/keyboard_controller.hpp"
#include "devices/i8254/pit.hpp"
#include "devices/irq_router/irq_router.hpp"
#include "devices/mc146818/rtc.hpp"
#include "devices/reset_control/reset_control.hpp"
#include "devices/test_device/test_device.hpp"
#include "devices/uart16550/uart.hpp"
#include "machine/config.hpp"

namespace abyme::machine {

// What every PC has at fixed places: interrupt controllers, timers, clock, serial port, power, firmware configuration.
class PcDevices {
public:
  struct Surroundings {
    Bus &bus;
    InterruptSink &interrupts;
    TimerService &timers;
    GuestMemory &memory;
    PowerSignals &power;
    Console &serial; // where ttyS0 goes
  };
  PcDevices(const MachineConfig &config, const Surroundings &around);

  [[nodiscard]] IrqRouter &irqs() { return irqs_; }
  [[nodiscard]] Pic &pic() { return pic_; }
  [[nodiscard]] IoApic &ioapic() { return ioapic_; }
  [[nodiscard]] RegisterBlock &reset_control() { return reset_control_; }

private:
  void add_test_devices(const Surroundings &around);

  Pic pic_;
  IoApic ioapic_;
  IrqRouter irqs_;
  Pit pit_;
  Rtc rtc_;
  Uart16550 uart_;
  AcpiPm acpi_pm_;
  KeyboardController keyboard_;
  ResetControl reset_control_;
  FwCfg fw_cfg_;
  std::optional<DebugExit> debug_exit_;
  std::optional<TestDevice> test_device_;
};

} // namespace abyme::machine
