#pragma once
#include "forms.hpp"

namespace abyme::differential {

// Whether an instruction can be executed once by an ordinary process and means the same there as in the guest.
[[nodiscard]] bool comparable(const x86::CpuProfile &profile, const Decoded &d);

// Status flags that an instruction leaves undefined, as RFLAGS bits, by the manual.
[[nodiscard]] u64 undefined_flags(const Decoded &d, u64 count);

} // namespace abyme::differential
