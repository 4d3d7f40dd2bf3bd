#include "machine/boot/placement.hpp"
#include <algorithm>
#include <ranges>

namespace abyme::machine::boot {
namespace {

u64 align_up(u64 at, u64 alignment) { return (at + alignment - 1) & ~(alignment - 1); }
u64 align_down(u64 at, u64 alignment) { return at & ~(alignment - 1); }

} // namespace

const Placement::Taken *Placement::clash(u64 start, u64 end) const {
  const auto found = std::ranges::find_if(taken_, [&](const Taken &t) { return start < t.end && t.start < end; });
  return found == taken_.end() ? nullptr : &*found;
}

bool Placement::is_ram(u64 start, u64 end) const {
  return std::ranges::any_of(map_, [&](const MapEntry &entry) {
    return entry.kind == MapKind::Ram && start >= entry.start.value && end <= entry.start.value + entry.size;
  });
}

Result<void> Placement::claim(Gpa at, u64 size, std::string_view what) {
  const u64 end = at.value + size;
  if (end < at.value)
    return fail("{}: {:#x} bytes at {:#x} reach beyond the end of the address space", what, size, at.value);
  if (!is_ram(at.value, end)) {
    return fail("{}: {:#x}-{:#x} is not all RAM that a kernel may use; the guest has {} MiB of it (--memory)", what,
                at.value, end, memory_.size() >> 20);
  }
  if (const Taken *other = clash(at.value, end))
    return fail("{}: {:#x}-{:#x} overlaps {} at {:#x}-{:#x}", what, at.value, end, other->what, other->start,
                other->end);
  taken_.push_back({at.value, end, std::string(what)});
  return {};
}

std::unexpected<Error> Placement::no_room(u64 size, const Bounds &bounds, std::string_view what) const {
  return fail("{}: no room for {} KiB between {:#x} and {:#x} in the guest's {} MiB; give it more with --memory", what,
              (size + 1023) >> 10, bounds.min.value, bounds.max.value, memory_.size() >> 20);
}

Result<Gpa> Placement::highest(u64 size, const Bounds &bounds, std::string_view what) {
  for (const auto &entry : std::views::reverse(map_)) {
    if (entry.kind != MapKind::Ram) continue;
    u64 end = std::min(entry.start.value + entry.size, bounds.max.value + 1);
    const u64 start = std::max(entry.start.value, bounds.min.value);
    while (end >= start && end - start >= size) {
      const u64 at = align_down(end - size, bounds.alignment);
      if (at < start) break;
      const Taken *other = clash(at, at + size);
      if (!other) {
        taken_.push_back({at, at + size, std::string(what)});
        return Gpa(at);
      }
      end = other->start;
    }
  }
  return no_room(size, bounds, what);
}

Result<Gpa> Placement::lowest(u64 size, const Bounds &bounds, std::string_view what) {
  for (const auto &entry : map_) {
    if (entry.kind != MapKind::Ram) continue;
    const u64 end = std::min(entry.start.value + entry.size, bounds.max.value + 1);
    u64 at = align_up(std::max(entry.start.value, bounds.min.value), bounds.alignment);
    while (at <= end && end - at >= size) {
      const Taken *other = clash(at, at + size);
      if (!other) {
        taken_.push_back({at, at + size, std::string(what)});
        return Gpa(at);
      }
      at = align_up(other->end, bounds.alignment);
    }
  }
  return no_room(size, bounds, what);
}

Result<Gpa> Placement::put_lowest(ByteView bytes, const Bounds &bounds, std::string_view what) {
  auto at = lowest(bytes.size(), bounds, what);
  if (at) write(*at, bytes);
  return at;
}

void Placement::write(Gpa at, ByteView bytes) {
  // A taken place is RAM, so this cannot fail.
  [[maybe_unused]] const bool written = memory_.write(at, bytes.data(), bytes.size());
}

} // namespace abyme::machine::boot
