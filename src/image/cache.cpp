#include "image/cache.hpp"
#include "base/fd.hpp"
#include <algorithm>
#include <cstdlib>
#include <fcntl.h>
#include <sys/stat.h>

namespace abyme::image {
namespace fs = std::filesystem;
namespace {

constexpr size_t kKeptFiles = 8;

// FNV-1a. It tells apart what this program made itself, nothing hostile.
u64 digest(std::span<const u8> content) {
  u64 hash = 0xCBF2'9CE4'8422'2325;
  for (const u8 byte : content) hash = (hash ^ byte) * 0x100'0000'01B3;
  return hash;
}

Result<fs::path> cache_root() {
  if (const char *home = std::getenv("XDG_CACHE_HOME"); home && *home == '/') return fs::path(home) / "abyme";
  if (const char *home = std::getenv("HOME"); home && *home) return fs::path(home) / ".cache" / "abyme";
  return fail("no place for the cache: set XDG_CACHE_HOME or HOME to a folder that can be written");
}

Result<void> write_file(int fd, std::span<const u8> content, const fs::path &path) {
  while (!content.empty()) {
    const ssize_t n = ::write(fd, content.data(), content.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return fail_errno(path.string());
    content = content.subspan(static_cast<size_t>(n));
  }
  return {};
}

// Renames; where another process was faster, its result is as good.
Result<fs::path> publish(const fs::path &made, const fs::path &final) {
  std::error_code error;
  fs::rename(made, final, error);
  if (!error) return final;
  std::error_code ignored;
  fs::remove_all(made, ignored);
  if (fs::exists(final, ignored)) return final;
  return fail("{}: {}", final.string(), error.message());
}

} // namespace

Result<Cache> Cache::open() {
  auto root = cache_root();
  if (!root) return std::unexpected(root.error());
  std::error_code error;
  fs::create_directories(*root, error);
  if (error) return fail("{}: {}; set XDG_CACHE_HOME to a folder that can be written", root->string(), error.message());
  return Cache(std::move(*root));
}

Result<fs::path> Cache::folder(const std::string &name, const Fill &fill) const {
  const auto final = root_ / name;
  std::error_code error;
  if (fs::is_directory(final, error)) return final;
  auto pattern = (root_ / (name + ".XXXXXX")).string();
  if (!::mkdtemp(pattern.data())) return fail_errno(pattern);
  if (auto filled = fill(pattern); !filled) {
    fs::remove_all(pattern, error);
    return std::unexpected(filled.error());
  }
  ::chmod(pattern.c_str(), 0755); // mkdtemp is stricter than a cache needs
  return publish(pattern, final);
}

Result<fs::path> Cache::file(const std::string &prefix, std::span<const u8> content) const {
  const auto final = root_ / fmt::format("{}-{:016x}", prefix, digest(content));
  std::error_code error;
  if (fs::file_size(final, error) == content.size() && !error) {
    fs::last_write_time(final, fs::file_time_type::clock::now(), error);
    return final;
  }
  auto pattern = final.string() + ".XXXXXX";
  const Fd fd(::mkostemp(pattern.data(), O_CLOEXEC));
  if (!fd) return fail_errno(pattern);
  if (auto written = write_file(fd.get(), content, pattern); !written) {
    fs::remove(pattern, error);
    return std::unexpected(written.error());
  }
  discard_old(prefix);
  return publish(pattern, final);
}

void Cache::discard_old(const std::string &prefix) const {
  std::vector<fs::directory_entry> found;
  std::error_code error;
  for (const auto &entry : fs::directory_iterator(root_, error)) {
    const auto name = entry.path().filename().string();
    if (name.starts_with(prefix + "-") && entry.is_regular_file(error)) found.push_back(entry);
  }
  if (found.size() < kKeptFiles) return;
  const auto age = [](const fs::directory_entry &entry) {
    std::error_code gone;
    return entry.last_write_time(gone);
  };
  std::ranges::sort(found, std::greater(), age);
  for (size_t i = kKeptFiles - 1; i < found.size(); i++) fs::remove(found[i], error);
}

} // namespace abyme::image
