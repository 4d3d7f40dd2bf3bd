#pragma once
#include "base/int.hpp"

// Names of the type-0 configuration header (PCI Local Bus 3.0 §6.1, §6.2).
namespace abyme::pci {

enum ConfigRegister : unsigned {
  kVendorId = 0x00,
  kDeviceId = 0x02,
  kCommand = 0x04,
  kStatus = 0x06,
  kClassRevision = 0x08,
  kCacheLineSize = 0x0c,
  kHeaderType = 0x0e,
  kBar0 = 0x10,
  kSubsystemVendor = 0x2c,
  kSubsystemId = 0x2e,
  kCapabilities = 0x34,
  kInterruptLine = 0x3c,
  kInterruptPin = 0x3d,
};

constexpr u16 kCommandMemory = 1 << 1;
constexpr u16 kCommandMaster = 1 << 2;
constexpr u16 kCommandInterruptDisable = 1 << 10;
constexpr u8 kStatusInterrupt = 1 << 3;
constexpr u8 kStatusCapabilities = 1 << 4;

constexpr u32 kBarMemory64 = 2 << 1;
constexpr u32 kBarPrefetchable = 1 << 3;

constexpr u8 kHeaderMultiFunction = 0x80;

constexpr u8 kCapabilityMsix = 0x11;
constexpr u16 kMsixEnable = 1 << 15;
constexpr u16 kMsixFunctionMask = 1 << 14;

} // namespace abyme::pci
