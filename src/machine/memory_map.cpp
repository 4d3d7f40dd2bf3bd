#include "machine/memory_map.hpp"

namespace abyme::machine {

std::vector<MapEntry> memory_map(const GuestMemory &memory) {
  const auto between = [](Gpa start, Gpa end, MapKind kind) { return MapEntry{start, end - start, kind}; };
  const auto regions = memory.regions();
  std::vector<MapEntry> map{
      between(Gpa(0), kBaseMemoryEnd, MapKind::Ram),
      between(kBaseMemoryEnd, Gpa(0xA0000), MapKind::Reserved),
      between(kTablesStart, kTablesEnd, MapKind::Reserved),
      between(kTablesEnd, regions[0].start + regions[0].size, MapKind::Ram),
      // Linux uses ECAM only if the memory map reserves it.
      {kEcam, kEcamSize, MapKind::Reserved},
      {kIoApic, kPageSize, MapKind::Reserved},
      {kLocalApic, kPageSize, MapKind::Reserved},
  };
  for (const auto &region : regions.subspan(1)) map.push_back({region.start, region.size, MapKind::Ram});
  return map;
}

} // namespace abyme::machine
