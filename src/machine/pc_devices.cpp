#include "machine/pc_devices.hpp"
#include "machine/ports.hpp"

namespace abyme::machine {
namespace {

constexpr unsigned kTimerIrq = 0;
constexpr unsigned kKeyboardIrq = 1;
constexpr unsigned kIsaIrqs = 16;

Uart16550::Backend backend_of(Console &console) {
  return {.output = [&console](std::span<const u8> bytes) { console.write(bytes); },
          .input_room = [&console] { console.input_room(); }};
}

// What test kernels, and Linux's qemu_fw_cfg, look up. Kernel and initrd are in place already: no firmware is to load
// them from here.
void describe(const MachineConfig &config, FwCfg &fw_cfg) {
  constexpr u16 kCommandLineSize = 0x14, kCommandLineData = 0x15;
  fw_cfg.add_number(FwCfg::kRamSize, config.memory, 8);
  fw_cfg.add_number(FwCfg::kCpus, config.cpus, 2);
  fw_cfg.add_number(FwCfg::kMaxCpus, config.cpus, 2);
  std::vector<u8> text(config.command_line.begin(), config.command_line.end());
  text.push_back(0);
  fw_cfg.add_number(kCommandLineSize, text.size(), 4);
  fw_cfg.add(kCommandLineData, std::move(text));
}

} // namespace

PcDevices::PcDevices(const MachineConfig &config, const Surroundings &around)
    : pic_(around.bus, around.interrupts), ioapic_(around.bus, around.interrupts), irqs_(pic_, ioapic_),
      pit_(around.bus, around.timers, irqs_.isa(kTimerIrq)), rtc_(around.bus, around.timers, irqs_.isa(kRtcIrq)),
      uart_(around.bus, kSerialPort, irqs_.isa(kSerialIrq), backend_of(around.serial)),
      acpi_pm_(around.bus, around.timers, irqs_.isa(kSciIrq), around.power,
               {.port = kPmEventPort, .timer_bits = 24, .soft_off_type = kSleepTypeOff}),
      keyboard_(around.bus, irqs_.isa(kKeyboardIrq), around.power), reset_control_(around.power),
      fw_cfg_(around.bus, around.memory) {
  const auto regions = around.memory.regions();
  rtc_.set_memory(regions[0].size, regions.size() > 1 ? regions[1].size : 0);
  rtc_.set_cpus(config.cpus);
  describe(config, fw_cfg_);
  if (config.test_devices) add_test_devices(around);
  around.serial.connect([this](ByteView bytes) { return uart_.receive(bytes); });
}

void PcDevices::add_test_devices(const Surroundings &around) {
  debug_exit_.emplace(around.bus, around.power);
  std::array<IrqLine *, TestDevice::kLines> lines;
  for (unsigned i = 0; i < lines.size(); i++) lines[i] = i < kIsaIrqs ? &irqs_.isa(i) : &irqs_.gsi(i);
  test_device_.emplace(around.bus, lines);
}

} // namespace abyme::machine
