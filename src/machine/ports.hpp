#pragma once
#include "base/int.hpp"

// I/O ports and interrupts of the PC that its ACPI tables tell of.
namespace abyme::machine {

constexpr u16 kResetPort = 0xCF9; // PIIX/ICH reset control
constexpr u8 kResetValue = 6;     // full reset
constexpr u16 kPmEventPort =
    0x600; // PM1a_EVT_BLK, PM1a_CNT_BLK and PM_TMR_BLK, where QEMU's machines have them: test kernels power
constexpr u16 kPmControlPort = 0x604; // off by a write there
constexpr u16 kPmTimerPort = 0x608;
constexpr u8 kSleepTypeOff = 0; // SLP_TYPa of S5
constexpr u16 kSerialPort = 0x3F8;
constexpr u8 kSerialIrq = 4;
constexpr u16 kRtcPort = 0x70;
constexpr u8 kRtcIrq = 8;
constexpr u8 kSciIrq = 9;
constexpr u16 kFwCfgPort = 0x510;
constexpr u16 kPciConfigPort = 0xCF8;
constexpr unsigned kTimerGsi = 2; // IRQ 0 is wired to I/O APIC pin 2, as on every PC

} // namespace abyme::machine
