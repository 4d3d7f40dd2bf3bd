#pragma once
#include "base/result.hpp"
#include "machine/bytes.hpp"
#include "machine/memory_map.hpp"
#include <string>
#include <string_view>
#include <vector>

namespace abyme::machine::boot {

// Keeps what a loader puts into RAM apart from one another and from what the memory map reserves.
class Placement {
public:
  explicit Placement(GuestMemory &memory) : memory_(memory), map_(memory_map(memory)) {}

  struct Bounds {
    u64 alignment = kPageSize; // a power of two
    Gpa min{0};
    Gpa max{0xFFFF'FFFF}; // of the last byte
  };
  // Takes [at, at + size) for `what`. Fails unless all of it is free RAM.
  [[nodiscard]] Result<void> claim(Gpa at, u64 size, std::string_view what);
  // Takes the highest, or the lowest, free place within bounds.
  [[nodiscard]] Result<Gpa> highest(u64 size, const Bounds &bounds, std::string_view what);
  [[nodiscard]] Result<Gpa> lowest(u64 size, const Bounds &bounds, std::string_view what);
  // The same, and fills it.
  [[nodiscard]] Result<Gpa> put_lowest(ByteView bytes, const Bounds &bounds, std::string_view what);
  // Fills a place taken before.
  void write(Gpa at, ByteView bytes);

private:
  struct Taken {
    u64 start, end;
    std::string what;
  };
  [[nodiscard]] const Taken *clash(u64 start, u64 end) const;
  [[nodiscard]] bool is_ram(u64 start, u64 end) const;
  [[nodiscard]] std::unexpected<Error> no_room(u64 size, const Bounds &bounds, std::string_view what) const;

  GuestMemory &memory_;
  std::vector<MapEntry> map_;
  std::vector<Taken> taken_;
};

// Low memory, where what a boot protocol hands over goes. The first page stays free: zero is no address to hand over.
constexpr Placement::Bounds kLowMemory{.alignment = 16, .min = Gpa(0x1000), .max = kBaseMemoryEnd - 1};

} // namespace abyme::machine::boot
