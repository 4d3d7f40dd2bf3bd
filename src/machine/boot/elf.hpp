#pragma once
#include "machine/boot/placement.hpp"
#include <vector>

namespace abyme::machine::boot {

// What of an x86 ELF executable a loader needs. `parse_elf` has checked that each part lies within the file.
struct ElfImage {
  struct Segment { // PT_LOAD
    Gpa at;        // p_paddr
    ByteView bytes;
    u64 memory_size; // at least bytes.size()
  };
  bool is_64 = false;
  u64 entry = 0;
  std::vector<Segment> segments;
  std::vector<ByteView> notes; // PT_NOTE
};

[[nodiscard]] bool is_elf(ByteView file);
[[nodiscard]] Result<ElfImage> parse_elf(ByteView file, std::string_view name);

// Copies the segments to their physical addresses. The end of the highest one.
[[nodiscard]] Result<Gpa> place_segments(const ElfImage &image, Placement &placement, std::string_view name);

} // namespace abyme::machine::boot
