#pragma once
#include "base/int.hpp"
#include "base/result.hpp"
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace abyme::image {

// An initial RAM file system (Linux Documentation/driver-api/early-userspace/buffer-format.rst: cpio, "newc"). It is
// not compressed: to inflate it would cost every level's guest more time than to read it. Everything belongs to root
// and has the time 0, so that equal content makes an equal image. Folders on the way to a path come by themselves.
class Initramfs {
public:
  // Paths are absolute in the guest.
  void add_folder(const std::string &path);
  void add_file(const std::string &path, std::span<const u8> content, u32 permissions = 0644);
  void add_file(const std::string &path, std::string_view text, u32 permissions = 0644);
  void add_link(const std::string &path, const std::string &target);
  void add_character_device(const std::string &path, u32 major, u32 minor);
  // An executable of the host without its debug information, and its shared libraries where the host has them.
  [[nodiscard]] Result<void> add_program(const std::filesystem::path &host, const std::string &path);

  // The whole archive. Nothing can be added after it.
  [[nodiscard]] std::vector<u8> finish();

private:
  struct Entry {
    u32 mode = 0, links = 1, device_major = 0, device_minor = 0;
  };
  void add_parents(const std::string &path);
  void append(const std::string &path, const Entry &entry, std::span<const u8> content);
  void pad();
  std::vector<u8> archive_;
  std::set<std::string> paths_;
  u32 inode_ = 0;
};

} // namespace abyme::image
