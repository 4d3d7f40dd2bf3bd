#include "image/file.hpp"
#include <cerrno>
#include <fstream>

namespace abyme::image {

Result<std::vector<u8>> read_file(const std::filesystem::path &path) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) return fail_errno(path.string());
  std::vector<u8> content(static_cast<size_t>(in.tellg()));
  in.seekg(0).read(reinterpret_cast<char *>(content.data()), static_cast<std::streamsize>(content.size()));
  if (!in) return fail_errno(path.string());
  return content;
}

} // namespace abyme::image
