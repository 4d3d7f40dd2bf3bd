#pragma once
#include "machine/bytes.hpp"

namespace abyme::machine::boot {

[[nodiscard]] bool has_multiboot_header(ByteView file);

} // namespace abyme::machine::boot
