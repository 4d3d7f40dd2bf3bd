#pragma once
#include "soft/hostexec/plan.hpp"

namespace abyme::soft::hostexec {

// A handler without a stub for the plain moves that memory copies are made of, or nullptr. Sets op.reg_index and
// op.condition to the numbers of the vector registers. Where the fast way does not do (a closed gate, a page crossing)
// it goes on as run_memory() or run_registers().
[[nodiscard]] Handler fast_move(const ZydisDecodedInstruction &instruction, const ZydisDecodedOperand *operands,
                                Op &op);

} // namespace abyme::soft::hostexec
