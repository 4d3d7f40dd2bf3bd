#pragma once
#include "base/int.hpp"
#include <cstring>
#include <span>

namespace abyme::net::fuzz {

// The fuzzer's bytes as a sequence of choices; zeros once they are used up.
class Input {
public:
  Input(const u8 *data, std::size_t size) : left_(data, size) {}
  [[nodiscard]] bool empty() const { return left_.empty(); }
  template <class T> [[nodiscard]] T take() {
    T value{};
    const std::size_t n = std::min(sizeof value, left_.size());
    if (n) std::memcpy(&value, left_.data(), n);
    left_ = left_.subspan(n);
    return value;
  }
  [[nodiscard]] std::span<const u8> bytes(std::size_t n) {
    const auto out = left_.first(std::min(n, left_.size()));
    left_ = left_.subspan(out.size());
    return out;
  }

private:
  std::span<const u8> left_;
};

} // namespace abyme::net::fuzz
