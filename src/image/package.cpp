#include "image/package.hpp"
#include "image/program.hpp"
#include <algorithm>
#include <sstream>

namespace abyme::image {
namespace fs = std::filesystem;
namespace {

// Debian Policy §5.6.7; also keeps options and paths out of what apt gets to see.
bool is_package_name(const std::string &text) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
  };
  return text.size() >= 2 && text[0] != '-' && text[0] != '.' && std::ranges::all_of(text, allowed);
}

Result<void> download_and_extract(const std::string &package, const fs::path &folder) {
  const auto archives = folder / "download";
  std::error_code error;
  fs::create_directory(archives, error);
  if (auto got = run_program({"apt-get", "download", "-q", package}, archives.string()); !got)
    return fail("cannot download the Debian package {} ({}); apt-get update, as root, may help, or give a kernel file",
                package, got.error().message);
  for (const auto &archive : fs::directory_iterator(archives, error))
    if (auto done = run_program({"dpkg-deb", "-x", archive.path().string(), folder.string()}); !done)
      return std::unexpected(done.error());
  fs::remove_all(archives, error);
  return {};
}

} // namespace

Result<fs::path> package_folder(const Cache &cache, const std::string &package) {
  if (!is_package_name(package)) return fail("{}: not the name of a Debian package", package);
  return cache.folder(package, [&](const fs::path &folder) { return download_and_extract(package, folder); });
}

Result<std::string> resolve_kernel_package(const std::string &package) {
  if (!is_package_name(package)) return fail("{}: not the name of a Debian package, and not a file", package);
  const auto answer = run_program({"apt-cache", "depends", "--important", package});
  if (!answer)
    return fail("Debian package {}: {}; linux-image-cloud-amd64 and linux-image-amd64 are right, after apt-get update",
                package, answer.error().message);
  std::istringstream lines(*answer);
  for (std::string kind, name; lines >> kind;)
    if (kind == "Depends:" && lines >> name && name.starts_with("linux-image-")) return name;
  return package;
}

} // namespace abyme::image
