#pragma once
#include "base/int.hpp"
#include "base/result.hpp"
#include <filesystem>
#include <functional>
#include <span>

namespace abyme::image {

// $XDG_CACHE_HOME/abyme, by default ~/.cache/abyme: what can be made or downloaded again. Whatever stands in it under
// its final name is complete, since it is made under another one and renamed; several processes may fill it at once.
class Cache {
public:
  // Created if need be.
  [[nodiscard]] static Result<Cache> open();

  // The folder of this name; `fill` makes its content, in the folder that it is given, if there is none yet.
  using Fill = std::function<Result<void>(const std::filesystem::path &)>;
  [[nodiscard]] Result<std::filesystem::path> folder(const std::string &name, const Fill &fill) const;
  // A file with this content, its name `prefix` and a digest. Of each prefix only the few last used are kept.
  [[nodiscard]] Result<std::filesystem::path> file(const std::string &prefix, std::span<const u8> content) const;
  [[nodiscard]] const std::filesystem::path &root() const { return root_; }

private:
  explicit Cache(std::filesystem::path root) : root_(std::move(root)) {}
  void discard_old(const std::string &prefix) const;
  std::filesystem::path root_;
};

} // namespace abyme::image
