#include "image/kernel.hpp"
#include "image/package.hpp"
#include <fstream>
#include <sys/utsname.h>

namespace abyme::image {
namespace fs = std::filesystem;
namespace {

// Linux x86 boot protocol: offsets in the file.
constexpr std::streamoff kHeaderMagic = 0x202;   // "HdrS"
constexpr std::streamoff kKernelVersion = 0x20E; // u16, to which 0x200 is added
constexpr std::streamoff kSetup = 0x200;

fs::path modules_of(const fs::path &root, const std::string &version) {
  std::error_code error;
  for (const char *prefix : {"lib/modules", "usr/lib/modules"})
    if (const auto path = root / prefix / version; fs::is_directory(path / "kernel", error)) return path;
  return {};
}

// A kernel as packages lay it out below `root`.
Result<Kernel> kernel_below(const fs::path &root, const std::string &version, std::string origin) {
  const auto file = root / "boot" / ("vmlinuz-" + version);
  auto found = kernel_version(file);
  if (!found) return std::unexpected(found.error());
  return Kernel{file, version, modules_of(root, version), std::move(origin)};
}

Result<Kernel> from_file(const fs::path &file) {
  auto version = kernel_version(file);
  if (!version) return std::unexpected(version.error());
  std::error_code error;
  const auto full = fs::absolute(file, error);
  auto modules = modules_of(full.parent_path().parent_path(), *version);
  if (modules.empty()) modules = modules_of("/", *version);
  return Kernel{full, std::move(*version), std::move(modules), file.string()};
}

Result<Kernel> from_package(const Cache &cache, const std::string &name) {
  constexpr std::string_view kPrefix = "linux-image-";
  auto package = resolve_kernel_package(name);
  if (!package) return std::unexpected(package.error());
  if (!package->starts_with(kPrefix)) return fail("{}: not a package of a kernel; linux-image-... is right", name);
  const auto version = package->substr(kPrefix.size());
  if (auto installed = kernel_below("/", version, *package); installed && !installed->modules.empty()) return installed;
  const auto folder = package_folder(cache, *package);
  if (!folder) return std::unexpected(folder.error());
  return kernel_below(*folder, version, *package);
}

Result<Kernel> running_kernel() {
  utsname names{};
  ::uname(&names);
  return kernel_below("/", names.release, fmt::format("this host's {}", names.release));
}

} // namespace

Result<std::string> kernel_version(const fs::path &file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return fail_errno("kernel " + file.string());
  char magic[4] = {};
  unsigned char offset[2] = {};
  in.seekg(kHeaderMagic).read(magic, sizeof magic);
  in.seekg(kKernelVersion).read(reinterpret_cast<char *>(offset), sizeof offset);
  if (!in || std::string_view(magic, sizeof magic) != "HdrS")
    return fail("kernel {}: not a Linux bzImage; Debian's boot/vmlinuz-* is one", file.string());
  std::string version(128, '\0');
  in.seekg(kSetup + (offset[0] | offset[1] << 8)).read(version.data(), static_cast<std::streamsize>(version.size()));
  version.resize(version.find_first_of(std::string_view(" \0", 2)) == version.npos
                     ? 0
                     : version.find_first_of(std::string_view(" \0", 2)));
  if (version.empty() || version.find('/') != version.npos)
    return fail("kernel {}: its header names no version", file.string());
  return version;
}

Result<Kernel> find_kernel(const Cache &cache, const std::string &name) {
  std::error_code error;
  if (name.find('/') != name.npos || fs::is_regular_file(name, error)) return from_file(name);
  auto kernel = from_package(cache, name);
  if (kernel) return kernel;
  auto fallback = running_kernel();
  if (!fallback) return std::unexpected(kernel.error());
  fallback->origin += fmt::format(", since: {}", kernel.error().message);
  return fallback;
}

} // namespace abyme::image
