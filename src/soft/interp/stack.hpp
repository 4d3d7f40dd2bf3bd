#pragma once
#include "soft/interp/forms.hpp"

// The stack as instructions use it outside of the 64-bit fast paths: through SS, with the stack's own address width.
namespace abyme::soft {

[[nodiscard]] u64 stack_mask(const Cpu &cpu);
void move_stack_pointer(Cpu &cpu, i64 by);
[[nodiscard]] bool push(Cpu &cpu, u64 value, unsigned size);
// Reads `offset` bytes above the top; the stack pointer stays.
[[nodiscard]] bool peek(Cpu &cpu, u64 offset, u64 &value, unsigned size);

} // namespace abyme::soft
