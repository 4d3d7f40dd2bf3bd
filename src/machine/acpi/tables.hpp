#pragma once
#include "base/address.hpp"
#include "machine/bytes.hpp"

// The ACPI tables of the PC (ACPI 6.4): what an operating system learns of processors, interrupts, PCI, power and
// legacy devices.
namespace abyme::machine::acpi {

struct Pc {
  unsigned cpus = 1; // their local APIC IDs are 0, 1, ...
};

// The DSDT, complete with its header.
[[nodiscard]] Bytes make_dsdt(const Pc &pc);

// All tables as they lie in memory from `at` (aligned to 64 bytes, below 1 MiB) on; the RSDP comes first.
[[nodiscard]] Bytes make_tables(const Pc &pc, Gpa at);

// `body` behind a table header (§5.2.6) with its checksum right.
[[nodiscard]] Bytes make_table(std::string_view signature, u8 revision, ByteView body);

} // namespace abyme::machine::acpi
