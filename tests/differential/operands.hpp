#pragma once
#include "forms.hpp"
#include "machine_case.hpp"

namespace abyme::differential {

// Fills a case with this instruction and a state to run it in: random and corner values, with memory operands that
// mostly hit the data area, on and off alignment and page boundaries. `data` is what the data area holds so far. False:
// no such state for this instance.
[[nodiscard]] bool make_case(const Instance &instance, Random &random, u64 fs_base, Case &out);

} // namespace abyme::differential
