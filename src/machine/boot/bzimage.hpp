#pragma once
#include "machine/bytes.hpp"

namespace abyme::machine::boot {

[[nodiscard]] bool is_bzimage(ByteView file);

} // namespace abyme::machine::boot
