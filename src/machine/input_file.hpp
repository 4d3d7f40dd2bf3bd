#pragma once
#include "base/result.hpp"
#include "machine/bytes.hpp"
#include <memory>

namespace abyme::machine {

// A file that the user named, mapped rather than copied: kernels and initrds are large and needed once.
class InputFile {
public:
  // `option` is for messages: "--kernel".
  [[nodiscard]] static Result<std::unique_ptr<InputFile>> open(std::string_view option, const std::string &path);
  ~InputFile();
  InputFile(const InputFile &) = delete;
  InputFile &operator=(const InputFile &) = delete;
  [[nodiscard]] ByteView bytes() const { return {data_, size_}; }

private:
  InputFile() = default;
  const u8 *data_ = nullptr;
  u64 size_ = 0;
};

} // namespace abyme::machine
