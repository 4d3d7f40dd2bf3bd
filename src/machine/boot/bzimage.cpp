#include "machine/boot/bzimage.hpp"
#include "machine/boot/boot.hpp"
#include "machine/boot/entry_state.hpp"
#include <algorithm>
#include <bit>

// The 64-bit Linux boot protocol: Documentation/arch/x86/boot.rst and zero-page.rst in the kernel's tree.
namespace abyme::machine::boot {
namespace {

// Offsets in the setup header, which lie at the same places in the file and in boot_params ("zero page").
constexpr u64 kE820Count = 0x1E8;
constexpr u64 kSetupSectors = 0x1F1;
constexpr u64 kSystemSize = 0x1F4; // of the part after the setup sectors, in 16 bytes
constexpr u64 kBootFlag = 0x1FE;
constexpr u64 kJumpOffset = 0x201; // of the short jump at 0x200: ends where the header does
constexpr u64 kHeaderMagic = 0x202;
constexpr u64 kVersion = 0x206;
constexpr u64 kLoaderType = 0x210;
constexpr u64 kLoadFlags = 0x211;
constexpr u64 kRamdiskImage = 0x218;
constexpr u64 kRamdiskSize = 0x21C;
constexpr u64 kCommandLinePointer = 0x228;
constexpr u64 kInitrdAddressMax = 0x22C;
constexpr u64 kKernelAlignment = 0x230;
constexpr u64 kRelocatable = 0x234;
constexpr u64 kExtendedLoadFlags = 0x236;
constexpr u64 kCommandLineSize = 0x238;
constexpr u64 kPreferredAddress = 0x258;
constexpr u64 kInitSize = 0x260;
constexpr u64 kHeaderEnd = 0x268;
// Only in boot_params.
constexpr u64 kRsdpAddress = 0x70;
constexpr u64 kE820Table = 0x2D0;
constexpr u64 kHeaderLimit = 0x290; // what follows belongs to the loader
constexpr u64 kBootParamsSize = 4096;

constexpr u32 kMagic = 0x53726448;    // "HdrS"
constexpr u16 kOldestVersion = 0x20C; // first with xloadflags
constexpr u16 kEntry64 = 1;           // xloadflags: XLF_KERNEL_64
constexpr u8 kLoadedHigh = 1;
constexpr u8 kUnregisteredLoader = 0xFF;
constexpr u64 kEntryOffset64 = 0x200;

struct Setup {
  ByteView header;  // from offset 0 of the file to the end of the setup header
  ByteView payload; // what is loaded
  u32 initrd_max;
  u64 alignment;
  bool relocatable;
  u64 command_line_max;
  u64 preferred;
  u64 init_size; // RAM that the kernel uses from its load address on, before it looks at the memory map
};

template <std::unsigned_integral T> T field(ByteView header, u64 offset) {
  return read_le<T>(header, offset).value_or(0);
}

Result<void> check_version(const BootFiles &files) {
  const auto &name = files.kernel_name;
  const u16 version = field<u16>(files.kernel, kVersion);
  if (version < kOldestVersion) {
    return fail("{}: Linux boot protocol {}.{:02} is older than 2.12, the first with a 64-bit entry (Linux 3.8)", name,
                version >> 8, version & 0xFF);
  }
  if (!(field<u16>(files.kernel, kExtendedLoadFlags) & kEntry64))
    return fail("{}: this kernel has no 64-bit entry point (XLF_KERNEL_64 is clear): use an x86-64 kernel", name);
  if (!(field<u8>(files.kernel, kLoadFlags) & kLoadedHigh))
    return fail("{}: this kernel wants to be loaded below 1 MiB (zImage): use a bzImage", name);
  return {};
}

Result<Setup> parse_setup(const BootFiles &files) {
  const auto &name = files.kernel_name;
  const ByteView file = files.kernel;
  if (file.size() < kHeaderEnd) return fail("{}: the Linux setup header is cut off after {} bytes", name, file.size());
  if (auto checked = check_version(files); !checked) return std::unexpected(checked.error());
  const u8 sectors = field<u8>(file, kSetupSectors);
  const u64 start = (u64{sectors == 0 ? u8{4} : sectors} + 1) * 512;
  const u64 declared = u64{field<u32>(file, kSystemSize)} * 16;
  if (start >= file.size() || file.size() - start + 15 < declared) {
    return fail("{}: truncated: the setup header tells of {:#x} bytes from {:#x} on, the file has {:#x}", name,
                declared, start, file.size());
  }
  Setup setup{.header = file.first(std::clamp<u64>(kHeaderMagic + file[kJumpOffset], kHeaderEnd, kHeaderLimit)),
              .payload = file.subspan(start),
              .initrd_max = field<u32>(file, kInitrdAddressMax),
              .alignment = field<u32>(file, kKernelAlignment),
              .relocatable = field<u8>(file, kRelocatable) != 0,
              .command_line_max = field<u32>(file, kCommandLineSize),
              .preferred = field<u64>(file, kPreferredAddress),
              .init_size = field<u32>(file, kInitSize)};
  if (!std::has_single_bit(setup.alignment) || setup.alignment < kPageSize)
    return fail("{}: kernel_alignment {:#x} in the setup header is not a power of two of at least 4 KiB", name,
                setup.alignment);
  return setup;
}

Result<Gpa> place_kernel(const Setup &setup, const std::string &name, Placement &placement) {
  const u64 size = std::max<u64>(setup.init_size, setup.payload.size());
  const auto preferred = placement.claim(Gpa(setup.preferred), size, name);
  Gpa at(setup.preferred);
  if (!preferred) {
    if (!setup.relocatable) return std::unexpected(preferred.error());
    const auto elsewhere = placement.lowest(size, {.alignment = setup.alignment, .min = kTablesEnd}, name);
    if (!elsewhere) return std::unexpected(elsewhere.error());
    at = *elsewhere;
  }
  if (at.value + size > kHoleEnd) return fail("{}: {:#x} is above 4 GiB, where no kernel is entered", name, at.value);
  placement.write(at, setup.payload);
  return at;
}

Result<void> place_initrd(const BootFiles &files, const Setup &setup, Placement &placement, Bytes &params) {
  if (!files.initrd || files.initrd->empty()) return {};
  const Gpa max(setup.initrd_max ? setup.initrd_max : 0x37FF'FFFF);
  const auto at = placement.highest(files.initrd->size(), {.min = kTablesEnd, .max = max}, files.initrd_name);
  if (!at) return std::unexpected(at.error());
  placement.write(*at, *files.initrd);
  put_le(params, kRamdiskImage, static_cast<u32>(at->value));
  put_le(params, kRamdiskSize, static_cast<u32>(files.initrd->size()));
  return {};
}

Result<void> place_command_line(const BootFiles &files, const Setup &setup, Placement &placement, Bytes &params) {
  if (files.command_line.size() > setup.command_line_max) {
    return fail("the command line has {} characters; {} takes at most {}", files.command_line.size(), files.kernel_name,
                setup.command_line_max);
  }
  Bytes text;
  append_text(text, files.command_line);
  text.push_back(0);
  const auto at = placement.put_lowest(text, kLowMemory, "the command line");
  if (!at) return std::unexpected(at.error());
  put_le(params, kCommandLinePointer, static_cast<u32>(at->value));
  return {};
}

void describe_memory(const GuestMemory &memory, Bytes &params) {
  const auto map = memory_map(memory);
  for (size_t i = 0; i < map.size(); i++) {
    const u64 at = kE820Table + i * 20;
    put_le(params, at, map[i].start.value);
    put_le(params, at + 8, map[i].size);
    put_le(params, at + 16, static_cast<u32>(map[i].kind));
  }
  params[kE820Count] = static_cast<u8>(map.size());
}

Bytes make_params(const BootFiles &files, const Setup &setup, const GuestMemory &memory) {
  Bytes params(kBootParamsSize);
  std::ranges::copy(setup.header.subspan(kSetupSectors), params.begin() + kSetupSectors);
  params[kLoaderType] = kUnregisteredLoader;
  put_le(params, kRamdiskImage, u32{0});
  put_le(params, kRamdiskSize, u32{0});
  put_le(params, kRsdpAddress, files.rsdp.value);
  describe_memory(memory, params);
  return params;
}

} // namespace

bool is_bzimage(ByteView file) {
  return read_le<u16>(file, kBootFlag) == 0xAA55 && read_le<u32>(file, kHeaderMagic) == kMagic;
}

Result<x86::CpuState> load_bzimage(const BootFiles &files, GuestMemory &memory) {
  const auto setup = parse_setup(files);
  if (!setup) return std::unexpected(setup.error());
  Placement placement(memory);
  const auto kernel_at = place_kernel(*setup, files.kernel_name, placement);
  if (!kernel_at) return std::unexpected(kernel_at.error());
  Bytes params = make_params(files, *setup, memory);
  if (auto placed = place_initrd(files, *setup, placement, params); !placed) return std::unexpected(placed.error());
  if (auto placed = place_command_line(files, *setup, placement, params); !placed)
    return std::unexpected(placed.error());
  auto bounds = kLowMemory;
  bounds.alignment = kPageSize;
  const auto params_at = placement.put_lowest(params, bounds, "the boot parameters");
  if (!params_at) return std::unexpected(params_at.error());
  auto state = long_mode_entry(*kernel_at + kEntryOffset64, placement);
  if (state) state->gpr[x86::RSI] = params_at->value;
  return state;
}

} // namespace abyme::machine::boot
