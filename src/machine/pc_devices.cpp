#include "machine/pc_devices.hpp"
#include "machine/ports.hpp"

namespace abyme::machine {
namespace {

constexpr unsigned kTimerIrq = 0;
constexpr unsigned kKeyboardIrq = 1;

Uart16550::Backend backend_of(Console &console) {
  return {.output = [&console](std::span<const u8> bytes) { console.write(bytes); },
          .input_room = [&console] { console.input_room(); }};
}

} // namespace

PcDevices::PcDevices(const MachineConfig &config, const Surroundings &around)
    : pic_(around.bus, around.interrupts), ioapic_(around.bus, around.interrupts), irqs_(pic_, ioapic_),
      pit_(around.bus, around.timers, irqs_.isa(kTimerIrq)), rtc_(around.bus, around.timers, irqs_.isa(kRtcIrq)),
      uart_(around.bus, kSerialPort, irqs_.isa(kSerialIrq), backend_of(around.serial)),
      acpi_pm_(around.bus, around.timers, irqs_.isa(kSciIrq), around.power,
               {.port = kPmEventPort, .timer_bits = 24, .soft_off_type = kSleepTypeOff}),
      keyboard_(around.bus, irqs_.isa(kKeyboardIrq), around.power), reset_control_(around.power) {
  const auto regions = around.memory.regions();
  rtc_.set_memory(regions[0].size, regions.size() > 1 ? regions[1].size : 0);
  rtc_.set_cpus(config.cpus);
  if (config.test_devices) debug_exit_.emplace(around.bus, around.power);
  around.serial.connect([this](ByteView bytes) { return uart_.receive(bytes); });
}

} // namespace abyme::machine
