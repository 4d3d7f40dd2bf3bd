#include "machine/input_file.hpp"
#include "base/fd.hpp"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

namespace abyme::machine {

Result<std::unique_ptr<InputFile>> InputFile::open(std::string_view option, const std::string &path) {
  const auto what = fmt::format("{} {}", option, path);
  // Not blocking: a FIFO would otherwise wait for its writer.
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info {};
  if (!fd || fstat(fd.get(), &info) != 0) return fail_errno(what);
  if (!S_ISREG(info.st_mode)) return fail("{}: not a regular file", what);
  auto file = std::unique_ptr<InputFile>(new InputFile);
  if (info.st_size == 0) return file;
  void *data = mmap(nullptr, static_cast<size_t>(info.st_size), PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (data == MAP_FAILED) return fail_errno(what);
  file->data_ = static_cast<const u8 *>(data);
  file->size_ = static_cast<u64>(info.st_size);
  return file;
}

InputFile::~InputFile() {
  if (data_) munmap(const_cast<u8 *>(data_), size_);
}

} // namespace abyme::machine
