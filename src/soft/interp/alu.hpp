#pragma once
#include "soft/interp/forms.hpp"

namespace abyme::soft {

enum class Alu : u8 { Add, Or, Adc, Sbb, And, Sub, Xor, Cmp, Test };

[[nodiscard]] Handler alu_handler(const Cpu &cpu, const Op &op, Alu operation, Form form);

} // namespace abyme::soft
