#pragma once
#include "machine/boot/elf.hpp"
#include <optional>

namespace abyme::machine::boot {

// The 32-bit entry that an ELF note of Xen's type 18 (XEN_ELFNOTE_PHYS32_ENTRY) names.
[[nodiscard]] std::optional<Gpa> pvh_entry(const ElfImage &image);

} // namespace abyme::machine::boot
