#pragma once
#include "base/fd.hpp"
#include "base/result.hpp"
#include "devices/virtio/queue.hpp"
#include <span>
#include <string>

namespace abyme::virtio {

constexpr u64 kSectorSize = 512;

// A raw disk: a regular file or a block device, whole sectors, locked against other users for as long as it is open:
// any number may read it, or one may write it.
class DiskFile {
public:
  [[nodiscard]] static Result<DiskFile> open(const std::string &path, bool read_only);
  [[nodiscard]] u64 size() const { return size_; } // bytes, a multiple of kSectorSize
  [[nodiscard]] bool read_only() const { return read_only_; }
  [[nodiscard]] const std::string &path() const { return path_; }

  // Each returns 0 or an errno. The ranges lie inside the disk.
  [[nodiscard]] int read(u64 offset, std::span<const Buffer> to) const;
  [[nodiscard]] int write(u64 offset, std::span<const Buffer> from) const;
  [[nodiscard]] int flush() const;
  [[nodiscard]] int discard(u64 offset, u64 size) const;
  // Zeroes that take no room if `unmap`, where the file can do that.
  [[nodiscard]] int write_zeroes(u64 offset, u64 size, bool unmap) const;

private:
  [[nodiscard]] Result<void> find_size();
  [[nodiscard]] Result<void> lock() const;
  [[nodiscard]] int write_zero_bytes(u64 offset, u64 size) const;

  std::string path_;
  Fd fd_;
  u64 size_ = 0;
  bool read_only_ = false;
};

} // namespace abyme::virtio
