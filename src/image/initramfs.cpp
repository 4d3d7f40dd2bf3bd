#include "image/initramfs.hpp"
#include "image/executable.hpp"
#include "image/file.hpp"
#include <sys/stat.h>

namespace abyme::image {
namespace {

std::span<const u8> bytes_of(std::string_view text) { return {reinterpret_cast<const u8 *>(text.data()), text.size()}; }

} // namespace

void Initramfs::pad() { archive_.resize((archive_.size() + 3) & ~size_t{3}); }

void Initramfs::append(const std::string &path, const Entry &entry, std::span<const u8> content) {
  const auto header = fmt::format(
      "070701{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}", inode_++, entry.mode, 0,
      0, entry.links, 0, content.size(), 0, 0, entry.device_major, entry.device_minor, path.size() + 1, 0);
  archive_.insert(archive_.end(), header.begin(), header.end());
  archive_.insert(archive_.end(), path.begin(), path.end());
  archive_.push_back(0);
  pad();
  archive_.insert(archive_.end(), content.begin(), content.end());
  pad();
}

void Initramfs::add_parents(const std::string &path) {
  const size_t slash = path.rfind('/');
  if (slash != 0 && slash != path.npos) add_folder(path.substr(0, slash));
}

void Initramfs::add_folder(const std::string &path) {
  if (path == "/" || paths_.contains(path)) return;
  add_parents(path);
  paths_.insert(path);
  append(path.substr(1), {.mode = S_IFDIR | 0755, .links = 2}, {});
}

void Initramfs::add_file(const std::string &path, std::span<const u8> content, u32 permissions) {
  add_parents(path);
  if (paths_.insert(path).second) append(path.substr(1), {.mode = S_IFREG | permissions}, content);
}

void Initramfs::add_file(const std::string &path, std::string_view text, u32 permissions) {
  add_file(path, bytes_of(text), permissions);
}

void Initramfs::add_link(const std::string &path, const std::string &target) {
  add_parents(path);
  if (paths_.insert(path).second) append(path.substr(1), {.mode = S_IFLNK | 0777}, bytes_of(target));
}

void Initramfs::add_character_device(const std::string &path, u32 major, u32 minor) {
  add_parents(path);
  if (paths_.insert(path).second)
    append(path.substr(1), {.mode = S_IFCHR | 0600, .device_major = major, .device_minor = minor}, {});
}

Result<void> Initramfs::add_program(const std::filesystem::path &host, const std::string &path) {
  const auto file = read_file(host);
  if (!file) return std::unexpected(file.error());
  add_file(path, without_debug(*file), 0755);
  const auto libraries = libraries_of(host);
  if (!libraries) return std::unexpected(libraries.error());
  for (const auto &library : *libraries) {
    const auto content = read_file(library);
    if (!content) return std::unexpected(content.error());
    add_file(library.string(), without_debug(*content), 0755);
  }
  return {};
}

std::vector<u8> Initramfs::finish() {
  append("TRAILER!!!", {}, {});
  return std::move(archive_);
}

} // namespace abyme::image
