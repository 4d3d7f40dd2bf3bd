#include "machine/boot/pvh.hpp"
#include "machine/boot/boot.hpp"
#include "machine/boot/entry_state.hpp"

// The x86/HVM direct boot ABI (PVH): docs/misc/pvh.pandoc and public/arch-x86/hvm/start_info.h in Xen's tree.
namespace abyme::machine::boot {
namespace {

constexpr u32 kPhys32Entry = 18;
constexpr u32 kStartMagic = 0x336EC578;
constexpr u32 kVersion = 1; // the first with a memory map

// Each note: sizes of name and description, type, then both, padded to 4 bytes.
std::optional<Gpa> entry_in(ByteView notes) {
  const auto padded = [](u64 size) { return (size + 3) & ~u64{3}; };
  while (const auto type = read_le<u32>(notes, 8)) {
    const u64 name_size = *read_le<u32>(notes, 0);
    const u64 description_size = *read_le<u32>(notes, 4);
    const u64 description_at = 12 + padded(name_size);
    const auto note_name = slice(notes, 12, name_size);
    if (!note_name || !slice(notes, description_at, description_size)) return std::nullopt;
    const std::string_view text(reinterpret_cast<const char *>(note_name->data()), note_name->size());
    if (*type == kPhys32Entry && text == std::string_view("Xen\0", 4)) {
      if (description_size == 8) return Gpa(*read_le<u64>(notes, description_at));
      if (description_size == 4) return Gpa(*read_le<u32>(notes, description_at));
    }
    notes = notes.subspan(std::min<u64>(notes.size(), description_at + padded(description_size)));
  }
  return std::nullopt;
}

Bytes memory_map_table(const GuestMemory &memory) {
  Bytes table;
  for (const auto &entry : memory_map(memory)) {
    append_le(table, entry.start.value);
    append_le(table, entry.size);
    append_le(table, static_cast<u32>(entry.kind));
    append_le(table, u32{0});
  }
  return table;
}

// The one module, or none: its entry in the module list, or zero.
Result<Gpa> place_module(const BootFiles &files, Placement &placement) {
  if (!files.initrd || files.initrd->empty()) return Gpa(0);
  const auto at = placement.highest(files.initrd->size(), {.min = kTablesEnd}, files.initrd_name);
  if (!at) return at;
  placement.write(*at, *files.initrd);
  Bytes entry;
  for (const u64 value : {at->value, u64{files.initrd->size()}, u64{0}, u64{0}}) append_le(entry, value);
  return placement.put_lowest(entry, kLowMemory, "the module list");
}

Result<Gpa> place_start_info(const BootFiles &files, const GuestMemory &memory, Placement &placement) {
  const auto module_at = place_module(files, placement);
  if (!module_at) return module_at;
  Bytes text;
  append_text(text, files.command_line);
  text.push_back(0);
  const auto text_at = placement.put_lowest(text, kLowMemory, "the command line");
  if (!text_at) return text_at;
  const Bytes map = memory_map_table(memory);
  const auto map_at = placement.put_lowest(map, kLowMemory, "the memory map");
  if (!map_at) return map_at;
  Bytes info;
  append_le(info, kStartMagic);
  append_le(info, kVersion);
  append_le(info, u32{0}); // flags
  append_le(info, u32{*module_at == Gpa(0) ? 0u : 1u});
  append_le(info, module_at->value);
  append_le(info, text_at->value);
  append_le(info, files.rsdp.value);
  append_le(info, map_at->value);
  append_le(info, static_cast<u32>(map.size() / 24));
  append_le(info, u32{0});
  return placement.put_lowest(info, kLowMemory, "the start info");
}

} // namespace

std::optional<Gpa> pvh_entry(const ElfImage &image) {
  for (const auto &notes : image.notes)
    if (const auto entry = entry_in(notes)) return entry;
  return std::nullopt;
}

Result<x86::CpuState> load_pvh(const BootFiles &files, GuestMemory &memory) {
  const auto image = parse_elf(files.kernel, files.kernel_name);
  if (!image) return std::unexpected(image.error());
  const auto entry = pvh_entry(*image);
  if (!entry) return fail("{}: the ELF file has no PVH entry note", files.kernel_name);
  Placement placement(memory);
  if (auto end = place_segments(*image, placement, files.kernel_name); !end) return std::unexpected(end.error());
  if (!memory.host(*entry, 1) || *entry >= Gpa(kHoleEnd))
    return fail("{}: the PVH entry point {:#x} is not in RAM below 4 GiB", files.kernel_name, entry->value);
  const auto info_at = place_start_info(files, memory, placement);
  if (!info_at) return std::unexpected(info_at.error());
  auto state = protected_mode_entry(*entry);
  state.gpr[x86::RBX] = info_at->value;
  return state;
}

} // namespace abyme::machine::boot
