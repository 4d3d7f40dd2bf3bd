#pragma once
#include "forms.hpp"
#include "machine_case.hpp"
#include <string>

namespace abyme::differential {

// What differs between the two outcomes beyond what the manual leaves open and what AMD and Intel do differently;
// empty: nothing.
[[nodiscard]] std::string compare(const Case &c, const Decoded &d, const Outcome &native, const Outcome &emulated);

// The listed differences between CPUs, as text: why a piece of state is not compared.
[[nodiscard]] std::string listed_differences();

} // namespace abyme::differential
