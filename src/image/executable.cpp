#include "image/executable.hpp"
#include "image/file.hpp"
#include "image/program.hpp"
#include <algorithm>
#include <cstring>
#include <elf.h>
#include <optional>
#include <sstream>

namespace abyme::image {
namespace fs = std::filesystem;
namespace {

std::optional<Elf64_Ehdr> elf_header(std::span<const u8> file) {
  Elf64_Ehdr header;
  if (file.size() < sizeof header) return std::nullopt;
  std::memcpy(&header, file.data(), sizeof header);
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64) return std::nullopt;
  if (header.e_phentsize != sizeof(Elf64_Phdr)) return std::nullopt;
  const u64 table = u64{header.e_phnum} * sizeof(Elf64_Phdr);
  if (header.e_phoff > file.size() || table > file.size() - header.e_phoff) return std::nullopt;
  return header;
}

std::vector<Elf64_Phdr> program_headers(std::span<const u8> file, const Elf64_Ehdr &header) {
  std::vector<Elf64_Phdr> headers(header.e_phnum);
  std::memcpy(headers.data(), file.data() + header.e_phoff, headers.size() * sizeof(Elf64_Phdr));
  return headers;
}

bool inside(const Elf64_Phdr &segment, u64 size) {
  return segment.p_offset <= size && segment.p_filesz <= size - segment.p_offset;
}

// PT_INTERP; empty for a static executable.
std::string interpreter(std::span<const u8> file) {
  const auto header = elf_header(file);
  if (!header) return {};
  for (const auto &segment : program_headers(file, *header)) {
    if (segment.p_type != PT_INTERP || !inside(segment, file.size())) continue;
    const std::string path(reinterpret_cast<const char *>(file.data()) + segment.p_offset, segment.p_filesz);
    return path.c_str(); // up to the terminating zero
  }
  return {};
}

} // namespace

Result<std::vector<fs::path>> libraries_of(const fs::path &executable) {
  std::error_code error; // a path like /proc/self/exe means another file to the linker
  const auto real = fs::canonical(executable, error);
  if (error) return fail("{}: {}", executable.string(), error.message());
  const auto file = read_file(real);
  if (!file) return std::unexpected(file.error());
  const auto linker = interpreter(*file);
  if (linker.empty()) return std::vector<fs::path>();
  const auto listed = run_program({linker, "--list", real.string()});
  if (!listed) return std::unexpected(listed.error());
  std::vector<fs::path> paths;
  std::istringstream words(*listed); // "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)"
  for (std::string line; std::getline(words, line);) {
    if (line.find("not found") != line.npos) return fail("{}: shared library missing: {}", executable.string(), line);
    const size_t start = line.find('/');
    if (start != line.npos) paths.emplace_back(line.substr(start, line.find(' ', start) - start));
  }
  if (std::ranges::find(paths, fs::path(linker)) == paths.end()) paths.emplace_back(linker);
  return paths;
}

std::vector<u8> without_debug(std::span<const u8> file) {
  std::vector<u8> out(file.begin(), file.end());
  auto header = elf_header(file);
  if (!header || header->e_phnum == 0) return out;
  u64 end = header->e_phoff + u64{header->e_phnum} * sizeof(Elf64_Phdr);
  for (const auto &segment : program_headers(file, *header)) {
    if (!inside(segment, file.size())) return out;
    end = std::max(end, segment.p_offset + segment.p_filesz);
  }
  header->e_shoff = 0;
  header->e_shnum = header->e_shstrndx = 0;
  std::memcpy(out.data(), &*header, sizeof *header);
  out.resize(end);
  return out;
}

} // namespace abyme::image
