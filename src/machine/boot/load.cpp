#include "machine/boot/boot.hpp"
#include "machine/boot/bzimage.hpp"
#include "machine/boot/elf.hpp"
#include "machine/boot/multiboot.hpp"
#include "machine/boot/pvh.hpp"
#include <array>

namespace abyme::machine::boot {
namespace {

struct Signature {
  std::string_view magic;
  std::string_view what;
};
// What people pass by mistake, so that the message can say what it is.
constexpr std::array kNotKernels{
    Signature{"\x1f\x8b", "gzip-compressed: decompress it first"},
    Signature{"\xfd"
              "7zXZ",
              "xz-compressed: decompress it first"},
    Signature{"\x28\xb5\x2f\xfd", "zstd-compressed: decompress it first"},
    Signature{"070701", "a cpio archive: pass it with --initrd"},
    Signature{"QFI\xfb", "a qcow2 disk image: --kernel takes a kernel"},
    Signature{"!<arch>\n", "a Debian package or archive: unpack it and pass boot/vmlinuz-*"},
};

std::string_view what_it_is(ByteView file) {
  const std::string_view text(reinterpret_cast<const char *>(file.data()), file.size());
  for (const auto &[magic, what] : kNotKernels)
    if (text.starts_with(magic)) return what;
  return file.empty() ? "empty" : "none of these";
}

} // namespace

std::string_view name(Protocol protocol) {
  switch (protocol) {
  case Protocol::LinuxBzImage: return "Linux 64-bit";
  case Protocol::Pvh: return "PVH";
  case Protocol::Multiboot: return "multiboot";
  }
  return "unknown";
}

Result<Protocol> recognize(const BootFiles &files) {
  if (is_bzimage(files.kernel)) return Protocol::LinuxBzImage;
  if (has_multiboot_header(files.kernel)) return Protocol::Multiboot;
  if (!is_elf(files.kernel)) {
    return fail(
        "{}: not a kernel: a Linux bzImage, an ELF file with a PVH note, or a multiboot image is right; this is {}",
        files.kernel_name, what_it_is(files.kernel));
  }
  const auto image = parse_elf(files.kernel, files.kernel_name);
  if (!image) return std::unexpected(image.error());
  if (pvh_entry(*image)) return Protocol::Pvh;
  return fail("{}: this ELF file has neither a PVH entry note (Linux: CONFIG_PVH) nor a multiboot header",
              files.kernel_name);
}

Result<x86::CpuState> load(const BootFiles &files, GuestMemory &memory) {
  const auto protocol = recognize(files);
  if (!protocol) return std::unexpected(protocol.error());
  switch (*protocol) {
  case Protocol::LinuxBzImage: return load_bzimage(files, memory);
  case Protocol::Pvh: return load_pvh(files, memory);
  case Protocol::Multiboot: break;
  }
  return load_multiboot(files, memory);
}

} // namespace abyme::machine::boot
