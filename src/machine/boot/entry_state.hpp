#pragma once
#include "machine/boot/placement.hpp"
#include "x86/state.hpp"

namespace abyme::machine::boot {

// Flat 32-bit protected mode without paging, as PVH and multiboot 1 enter a kernel.
[[nodiscard]] x86::CpuState protected_mode_entry(Gpa entry);

// 64-bit mode with the first 4 GiB mapped to themselves, and a GDT with __BOOT_CS 0x10 and __BOOT_DS 0x18, as the
// 64-bit Linux boot protocol asks for. Puts GDT and page tables into low memory.
[[nodiscard]] Result<x86::CpuState> long_mode_entry(Gpa entry, Placement &placement);

} // namespace abyme::machine::boot
