#include "devices/virtio_blk/disk_file.hpp"
#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>

namespace abyme::virtio {
namespace {

constexpr std::size_t kMaxVectors = 1024; // IOV_MAX

// Moves all of `buffers` with preadv or pwritev, however many calls it takes. A read past a file that shrank fails.
template <class Transfer> int transfer_all(u64 offset, std::span<const Buffer> buffers, Transfer transfer) {
  std::vector<iovec> vectors;
  for (const Buffer &b : buffers) vectors.push_back({b.host, b.size});
  std::span<iovec> rest(vectors);
  while (!rest.empty()) {
    const int count = static_cast<int>(std::min(rest.size(), kMaxVectors));
    const ssize_t moved = transfer(rest.data(), count, static_cast<off_t>(offset));
    if (moved < 0 && errno == EINTR) continue;
    if (moved <= 0) return moved == 0 ? EIO : errno;
    offset += static_cast<u64>(moved);
    auto left = static_cast<std::size_t>(moved);
    while (!rest.empty() && left >= rest.front().iov_len) {
      left -= rest.front().iov_len;
      rest = rest.subspan(1);
    }
    if (left != 0) rest.front() = {static_cast<u8 *>(rest.front().iov_base) + left, rest.front().iov_len - left};
  }
  return 0;
}

bool unsupported(int error) { return error == EOPNOTSUPP || error == ENOSYS || error == ENODEV; }

} // namespace

Result<DiskFile> DiskFile::open(const std::string &path, bool read_only) {
  DiskFile disk;
  disk.path_ = path;
  disk.read_only_ = read_only;
  disk.fd_ = Fd(::open(path.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK));
  if (!disk.fd_)
    return fail_errno(
        fmt::format("disk {}: opening it {}", path, read_only ? "to read" : "to write (',ro' opens it read-only)"));
  if (const auto sized = disk.find_size(); !sized) return std::unexpected(sized.error());
  if (const auto locked = disk.lock(); !locked) return std::unexpected(locked.error());
  return disk;
}

Result<void> DiskFile::find_size() {
  struct stat info {};
  if (fstat(fd_.get(), &info) != 0) return fail_errno(fmt::format("disk {}: fstat", path_));
  if (S_ISREG(info.st_mode))
    size_ = static_cast<u64>(info.st_size);
  else if (!S_ISBLK(info.st_mode))
    return fail("disk {}: it is neither a regular file nor a block device", path_);
  else if (ioctl(fd_.get(), BLKGETSIZE64, &size_) != 0)
    return fail_errno(fmt::format("disk {}: asking the block device for its size", path_));
  if (size_ == 0) return fail("disk {}: it is empty; 'truncate -s SIZE {}' gives it a size", path_, path_);
  if (size_ % kSectorSize != 0)
    return fail("disk {}: its size, {} bytes, is not a multiple of 512; 'truncate -s {} {}' pads it to the next", path_,
                size_, (size_ / kSectorSize + 1) * kSectorSize, path_);
  return {};
}

// A lock of the open file description: it goes with the last descriptor, even when this process is killed.
Result<void> DiskFile::lock() const {
  struct flock lock {};
  lock.l_type = read_only_ ? F_RDLCK : F_WRLCK;
  lock.l_whence = SEEK_SET;
  if (fcntl(fd_.get(), F_OFD_SETLK, &lock) == 0) return {};
  if (errno != EAGAIN && errno != EACCES) return fail_errno(fmt::format("disk {}: locking it", path_));
  return fail("disk {}: another VM uses it; a disk can have one writer, or any number of readers (',ro')", path_);
}

int DiskFile::read(u64 offset, std::span<const Buffer> to) const {
  return transfer_all(offset, to, [this](iovec *v, int n, off_t at) { return preadv(fd_.get(), v, n, at); });
}

int DiskFile::write(u64 offset, std::span<const Buffer> from) const {
  return transfer_all(offset, from, [this](iovec *v, int n, off_t at) { return pwritev(fd_.get(), v, n, at); });
}

int DiskFile::flush() const { return fdatasync(fd_.get()) == 0 ? 0 : errno; }

int DiskFile::discard(u64 offset, u64 size) const {
  const int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  if (fallocate(fd_.get(), mode, static_cast<off_t>(offset), static_cast<off_t>(size)) == 0) return 0;
  return unsupported(errno) ? 0 : errno; // discard is advice (virtio 1.2 §5.2.6.2)
}

int DiskFile::write_zeroes(u64 offset, u64 size, bool unmap) const {
  const int mode = (unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE) | FALLOC_FL_KEEP_SIZE;
  if (fallocate(fd_.get(), mode, static_cast<off_t>(offset), static_cast<off_t>(size)) == 0) return 0;
  return unsupported(errno) ? write_zero_bytes(offset, size) : errno;
}

int DiskFile::write_zero_bytes(u64 offset, u64 size) const {
  static std::array<u8, 65536> zeroes{}; // never written, but Buffer has no const form
  while (size != 0) {
    const Buffer piece{.at = {}, .size = static_cast<u32>(std::min<u64>(size, zeroes.size())), .host = zeroes.data()};
    if (const int error = write(offset, {&piece, 1})) return error;
    offset += piece.size;
    size -= piece.size;
  }
  return 0;
}

} // namespace abyme::virtio
