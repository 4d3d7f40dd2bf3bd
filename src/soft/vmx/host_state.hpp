#pragma once
#include "soft/vmx/exit.hpp"

namespace abyme::soft::vmx {

// Loads the host-state area and leaves non-root operation (SDM 3C §28.5). False: the PDPTEs of a PAE host are not
// valid.
[[nodiscard]] bool load_host_state(Cpu &cpu);

} // namespace abyme::soft::vmx
