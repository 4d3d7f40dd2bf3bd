#pragma once
#include "base/address.hpp"
#include "memory/guest_memory.hpp"
#include <vector>

// Where things are in the guest-physical address space of the PC, as its tables tell the guest.
namespace abyme::machine {

constexpr Gpa kBaseMemoryEnd{0x9FC00}; // the extended BIOS data area of a PC begins here; nothing is in ours
constexpr Gpa kTablesStart{0xE0000};   // RAM in which a guest looks for the RSDP (ACPI 6.4 §5.2.5.1)
constexpr Gpa kTablesEnd{0x100000};    // and which its loader leaves alone
constexpr Gpa kPciWindow{0xC000'0000}; // where PCI BARs go
constexpr u64 kPciWindowSize = 0x2000'0000;
constexpr Gpa kEcam{0xE000'0000}; // PCI configuration space of bus 0..255, 1 MiB a bus
constexpr u64 kEcamSize = 0x1000'0000;
constexpr Gpa kIoApic{0xFEC0'0000};
constexpr Gpa kLocalApic{0xFEE0'0000};
constexpr Gpa kDevicesEnd{0x1'0000'0000};

constexpr u64 kMinRam = 16_MiB;
constexpr u64 kMaxRam = 64_GiB;

// The values are those of E820, multiboot and PVH alike.
enum class MapKind : u32 { Ram = 1, Reserved = 2 };

struct MapEntry {
  Gpa start;
  u64 size;
  MapKind kind;
  bool operator==(const MapEntry &) const = default;
};

// The memory map that every boot protocol passes on: ascending, disjoint.
[[nodiscard]] std::vector<MapEntry> memory_map(const GuestMemory &memory);

} // namespace abyme::machine
