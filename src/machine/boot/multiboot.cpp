#include "machine/boot/multiboot.hpp"
#include "machine/boot/boot.hpp"
#include "machine/boot/elf.hpp"
#include "machine/boot/entry_state.hpp"

// The Multiboot Specification, version 0.6.96.
namespace abyme::machine::boot {
namespace {

constexpr u32 kHeaderMagic = 0x1BAD'B002;
constexpr u32 kLoaderMagic = 0x2BAD'B002;
constexpr u64 kSearchEnd = 8192;

// Flags of the header: bits 15:0 are requests that a loader must refuse if it does not know them.
constexpr u32 kAlignModules = 1 << 0;
constexpr u32 kMemoryInfo = 1 << 1;
constexpr u32 kVideoMode = 1 << 2; // a wish: the information structure says that there is none
constexpr u32 kKnownRequests = kAlignModules | kMemoryInfo | kVideoMode;
constexpr u32 kRequests = 0xFFFF;
constexpr u32 kAddressFields = 1 << 16;

// Flags of the information structure.
constexpr u32 kHasMemory = 1 << 0, kHasCommandLine = 1 << 2, kHasModules = 1 << 3, kHasMap = 1 << 6,
              kHasLoaderName = 1 << 9;
constexpr u64 kInfoSize = 116;

std::optional<u64> find_header(ByteView file) {
  for (u64 at = 0; at + 12 <= std::min<u64>(file.size(), kSearchEnd); at += 4) {
    if (*read_le<u32>(file, at) != kHeaderMagic) continue;
    if (*read_le<u32>(file, at) + *read_le<u32>(file, at + 4) + *read_le<u32>(file, at + 8) == 0) return at;
  }
  return std::nullopt;
}

struct Loaded {
  Gpa entry;
  Gpa end; // of what lies highest
};

// A raw image, placed as the address fields of its header say (§3.1.3).
Result<Loaded> load_by_address_fields(const BootFiles &files, u64 header_at, Placement &placement) {
  const auto &name = files.kernel_name;
  const auto field = [&](u64 index) { return read_le<u32>(files.kernel, header_at + 12 + index * 4); };
  if (!field(4)) return fail("{}: the address fields of the multiboot header are cut off", name);
  const u64 header_address = *field(0), load = *field(1), load_end = *field(2), bss_end = *field(3), entry = *field(4);
  if (header_address < load || header_address - load > header_at)
    return fail("{}: multiboot load address {:#x} lies before the file begins or after its header at {:#x}", name, load,
                header_address);
  const u64 offset = header_at - (header_address - load);
  if (load_end != 0 && load_end < load)
    return fail("{}: multiboot load_end_addr {:#x} lies before load_addr {:#x}", name, load_end, load);
  const u64 size = load_end == 0 ? files.kernel.size() - offset : load_end - load;
  const auto bytes = slice(files.kernel, offset, size);
  if (!bytes)
    return fail("{}: truncated: the multiboot header asks for {:#x} bytes at {:#x} of {:#x}", name, size, offset,
                files.kernel.size());
  if (bss_end != 0 && bss_end < load + size)
    return fail("{}: multiboot bss_end_addr {:#x} lies before the end of the image at {:#x}", name, bss_end,
                load + size);
  const u64 memory_size = bss_end == 0 ? size : bss_end - load;
  if (auto claimed = placement.claim(Gpa(load), memory_size, name); !claimed) return std::unexpected(claimed.error());
  placement.write(Gpa(load), *bytes);
  return Loaded{Gpa(entry), Gpa(load + memory_size)};
}

Result<Loaded> load_elf(const BootFiles &files, Placement &placement) {
  const auto image = parse_elf(files.kernel, files.kernel_name);
  if (!image) return std::unexpected(image.error());
  if (image->is_64) {
    return fail("{}: multiboot 1 takes a 32-bit ELF file, this is a 64-bit one: objcopy -O elf32-i386 makes one of it",
                files.kernel_name);
  }
  const auto end = place_segments(*image, placement, files.kernel_name);
  if (!end) return std::unexpected(end.error());
  return Loaded{Gpa(image->entry), *end};
}

Result<Gpa> put_text(std::string_view text, Placement &placement, std::string_view what) {
  Bytes bytes;
  append_text(bytes, text);
  bytes.push_back(0);
  return placement.put_lowest(bytes, kLowMemory, what);
}

// The initrd is the one module; its string is its file's name. Modules follow the kernel, as test kernels expect.
Result<void> place_module(const BootFiles &files, Gpa kernel_end, Placement &placement, Bytes &info) {
  if (!files.initrd) return {};
  const u64 min = std::max(kernel_end.value, kTablesEnd.value);
  const auto at = placement.put_lowest(*files.initrd, {.min = Gpa(min)}, files.initrd_name);
  if (!at) return std::unexpected(at.error());
  const auto text = put_text(files.initrd_name, placement, "the module's name");
  if (!text) return std::unexpected(text.error());
  Bytes entry;
  for (const u64 value : {at->value, at->value + files.initrd->size(), text->value, u64{0}})
    append_le(entry, static_cast<u32>(value));
  const auto list = placement.put_lowest(entry, kLowMemory, "the module list");
  if (!list) return std::unexpected(list.error());
  put_le(info, 20, u32{1});
  put_le(info, 24, static_cast<u32>(list->value));
  return {};
}

Result<void> place_memory_map(const GuestMemory &memory, Placement &placement, Bytes &info) {
  Bytes map;
  for (const auto &entry : memory_map(memory)) {
    append_le(map, u32{20}); // the size of what follows
    append_le(map, entry.start.value);
    append_le(map, entry.size);
    append_le(map, static_cast<u32>(entry.kind));
  }
  const auto at = placement.put_lowest(map, kLowMemory, "the memory map");
  if (!at) return std::unexpected(at.error());
  put_le(info, 4, static_cast<u32>(kBaseMemoryEnd.value >> 10));
  put_le(info, 8, static_cast<u32>((memory.regions()[0].size - kTablesEnd.value) >> 10));
  put_le(info, 44, static_cast<u32>(map.size()));
  put_le(info, 48, static_cast<u32>(at->value));
  return {};
}

Result<void> place_texts(const BootFiles &files, Placement &placement, Bytes &info) {
  // By QEMU's convention, which test kernels parse, the first word is the kernel's file name.
  const auto text = files.command_line.empty() ? files.kernel_name : files.kernel_name + " " + files.command_line;
  const auto command_line = put_text(text, placement, "the command line");
  if (!command_line) return std::unexpected(command_line.error());
  const auto loader = put_text("abyme", placement, "the loader's name");
  if (!loader) return std::unexpected(loader.error());
  put_le(info, 16, static_cast<u32>(command_line->value));
  put_le(info, 64, static_cast<u32>(loader->value));
  return {};
}

Result<Gpa> place_info(const BootFiles &files, Gpa kernel_end, const GuestMemory &memory, Placement &placement) {
  Bytes info(kInfoSize);
  put_le(info, 0, kHasMemory | kHasCommandLine | kHasMap | kHasLoaderName | (files.initrd ? kHasModules : 0));
  if (auto placed = place_module(files, kernel_end, placement, info); !placed) return std::unexpected(placed.error());
  if (auto placed = place_memory_map(memory, placement, info); !placed) return std::unexpected(placed.error());
  if (auto placed = place_texts(files, placement, info); !placed) return std::unexpected(placed.error());
  return placement.put_lowest(info, kLowMemory, "the multiboot information");
}

} // namespace

bool has_multiboot_header(ByteView file) { return find_header(file).has_value(); }

Result<x86::CpuState> load_multiboot(const BootFiles &files, GuestMemory &memory) {
  const auto header_at = find_header(files.kernel);
  if (!header_at) return fail("{}: no multiboot header in the first {} bytes", files.kernel_name, kSearchEnd);
  const u32 flags = *read_le<u32>(files.kernel, *header_at + 4);
  if (flags & kRequests & ~kKnownRequests)
    return fail("{}: the multiboot header requests features {:#x} that this loader does not have", files.kernel_name,
                flags & kRequests & ~kKnownRequests);
  Placement placement(memory);
  const auto loaded =
      flags & kAddressFields ? load_by_address_fields(files, *header_at, placement) : load_elf(files, placement);
  if (!loaded) return std::unexpected(loaded.error());
  if (!memory.host(loaded->entry, 1) || loaded->entry >= Gpa(kHoleEnd))
    return fail("{}: the entry point {:#x} is not in RAM below 4 GiB", files.kernel_name, loaded->entry.value);
  const auto info_at = place_info(files, loaded->end, memory, placement);
  if (!info_at) return std::unexpected(info_at.error());
  auto state = protected_mode_entry(loaded->entry);
  state.gpr[x86::RAX] = kLoaderMagic;
  state.gpr[x86::RBX] = info_at->value;
  return state;
}

} // namespace abyme::machine::boot
