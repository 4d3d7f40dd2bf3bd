#pragma once
#include "machine/bytes.hpp"
#include <initializer_list>
#include <string_view>

// ACPI machine language (ACPI 6.4 §20.2), the few terms that our DSDT is made of. Each function returns the encoding of
// one term.
namespace abyme::machine::aml {

[[nodiscard]] Bytes integer(u64 value);
[[nodiscard]] Bytes text(std::string_view value);
[[nodiscard]] Bytes eisa_id(std::string_view id); // "PNP0A03"
[[nodiscard]] Bytes package(std::initializer_list<Bytes> elements);
[[nodiscard]] Bytes package(const std::vector<Bytes> &elements);

// `path` as in ASL: "_SB_.PCI0", relative to where it stands; every segment has four characters.
[[nodiscard]] Bytes name(std::string_view path, const Bytes &value);
[[nodiscard]] Bytes scope(std::string_view path, std::initializer_list<Bytes> terms);
[[nodiscard]] Bytes device(std::string_view path, std::initializer_list<Bytes> terms);

// Resource descriptors (ACPI 6.4 §6.4), and the buffer that a _CRS is.
[[nodiscard]] Bytes resources(std::initializer_list<Bytes> descriptors);
[[nodiscard]] Bytes io_ports(u16 base, u8 count);
[[nodiscard]] Bytes irq(u8 line); // edge-triggered, active high
[[nodiscard]] Bytes fixed_memory(u32 base, u32 size);
// What a bridge passes on to what is behind it; both ends included.
[[nodiscard]] Bytes bus_numbers(u16 first, u16 last);
[[nodiscard]] Bytes port_window(u16 first, u16 last);
[[nodiscard]] Bytes memory_window(u32 first, u32 last);

} // namespace abyme::machine::aml
