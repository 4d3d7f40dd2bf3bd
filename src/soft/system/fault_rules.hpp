#pragma once
#include "soft/event.hpp"

namespace abyme::soft::system {

// What an exception during the delivery of an event becomes (SDM 3A §6.15, table 6-5).
enum class Escalation : unsigned char { Serial, DoubleFault, TripleFault };
[[nodiscard]] Escalation escalate(const Event &first, const Event &second);

} // namespace abyme::soft::system
