#include "machine/boot/elf.hpp"
#include <algorithm>
#include <elf.h>

namespace abyme::machine::boot {
namespace {

// No kernel has more than some ten.
constexpr unsigned kMaxPrograms = 256;

struct Layout64 {
  using Header = Elf64_Ehdr;
  using Program = Elf64_Phdr;
  static constexpr u16 kMachine = EM_X86_64;
};
struct Layout32 {
  using Header = Elf32_Ehdr;
  using Program = Elf32_Phdr;
  static constexpr u16 kMachine = EM_386;
};

template <class T> std::optional<T> read_struct(ByteView file, u64 offset) {
  const auto part = slice(file, offset, sizeof(T));
  if (!part) return std::nullopt;
  T value;
  std::memcpy(&value, part->data(), sizeof value);
  return value;
}

template <class Program>
Result<void> add_program(ElfImage &image, ByteView file, const Program &program, std::string_view name,
                         unsigned index) {
  if (program.p_type != PT_LOAD && program.p_type != PT_NOTE) return {};
  const auto bytes = slice(file, program.p_offset, program.p_filesz);
  if (!bytes) {
    return fail("{}: ELF program header {} takes {:#x} bytes at offset {:#x} of a file of {:#x}: the file is truncated "
                "or broken",
                name, index, u64{program.p_filesz}, u64{program.p_offset}, file.size());
  }
  if (program.p_type == PT_NOTE) {
    image.notes.push_back(*bytes);
  } else if (program.p_memsz < program.p_filesz) {
    return fail("{}: ELF program header {} has {:#x} bytes in the file but only {:#x} in memory", name, index,
                u64{program.p_filesz}, u64{program.p_memsz});
  } else if (program.p_memsz != 0) {
    image.segments.push_back({Gpa(program.p_paddr), *bytes, program.p_memsz});
  }
  return {};
}

template <class Layout> Result<ElfImage> parse(ByteView file, std::string_view name) {
  const auto header = read_struct<typename Layout::Header>(file, 0);
  if (!header) return fail("{}: the ELF header is cut off after {} bytes", name, file.size());
  if (header->e_type != ET_EXEC && header->e_type != ET_DYN)
    return fail("{}: ELF type {} is not an executable", name, header->e_type);
  if (header->e_machine != EM_X86_64 && header->e_machine != Layout::kMachine)
    return fail("{}: ELF machine {} is not x86", name, header->e_machine);
  if (header->e_phnum == 0 || header->e_phnum > kMaxPrograms ||
      header->e_phentsize != sizeof(typename Layout::Program)) {
    return fail("{}: {} ELF program headers of {} bytes; 1 to {} of {} are right", name, header->e_phnum,
                header->e_phentsize, kMaxPrograms, sizeof(typename Layout::Program));
  }
  ElfImage image;
  image.is_64 = header->e_ident[EI_CLASS] == ELFCLASS64;
  image.entry = header->e_entry;
  for (unsigned i = 0; i < header->e_phnum; i++) {
    const u64 offset = header->e_phoff + i * sizeof(typename Layout::Program);
    const auto program = offset < header->e_phoff ? std::nullopt : read_struct<typename Layout::Program>(file, offset);
    if (!program) return fail("{}: ELF program header {} lies beyond the end of the file", name, i);
    if (auto added = add_program(image, file, *program, name, i); !added) return std::unexpected(added.error());
  }
  if (image.segments.empty()) return fail("{}: the ELF file has nothing to load (no PT_LOAD segment)", name);
  return image;
}

} // namespace

bool is_elf(ByteView file) { return file.size() >= SELFMAG && std::memcmp(file.data(), ELFMAG, SELFMAG) == 0; }

Result<ElfImage> parse_elf(ByteView file, std::string_view name) {
  if (file.size() < EI_NIDENT) return fail("{}: the ELF header is cut off after {} bytes", name, file.size());
  if (file[EI_DATA] != ELFDATA2LSB) return fail("{}: the ELF file is not little-endian", name);
  switch (file[EI_CLASS]) {
  case ELFCLASS64: return parse<Layout64>(file, name);
  case ELFCLASS32: return parse<Layout32>(file, name);
  default: return fail("{}: ELF class {} is neither 32-bit (1) nor 64-bit (2)", name, file[EI_CLASS]);
  }
}

Result<Gpa> place_segments(const ElfImage &image, Placement &placement, std::string_view name) {
  Gpa end{0};
  for (size_t i = 0; i < image.segments.size(); i++) {
    const auto &segment = image.segments[i];
    const auto what = fmt::format("{}: segment {}", name, i);
    if (auto claimed = placement.claim(segment.at, segment.memory_size, what); !claimed)
      return std::unexpected(claimed.error());
    placement.write(segment.at, segment.bytes);
    end = std::max(end, segment.at + segment.memory_size);
  }
  return end;
}

} // namespace abyme::machine::boot
