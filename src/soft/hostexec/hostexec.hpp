#pragma once
#include "soft/cpu.hpp"
#include <Zydis/Zydis.h>

// Instructions that execute on the host's own units: x87, MMX, SSE, AVX, AES, SHA, BMI and the rarer general-purpose ones. Each distinct
// encoding becomes a small host stub once: load the guest registers it reads, run the instruction itself with its memory operand
// redirected, store what it wrote.
namespace abyme::soft::hostexec {

// Fills op.handler/op.data (and, for those that it writes by hand, op.slow) when this instruction is hostexec's. False: it is not, or the
// profile lacks its feature (the decoder then makes it #UD). `op` already has its generic fields (registers, memory operand, length).
[[nodiscard]] bool translate(Cpu &cpu, const ZydisDecodedInstruction &instruction, const ZydisDecodedOperand *operands, Op &op);

// Before and after a vCPU's thread runs guest code: the host's MXCSR holds the guest's rounding, DAZ and FTZ with all exceptions masked
// in between.
void enter(Cpu &cpu);
void leave(Cpu &cpu);

// FNINIT state, MXCSR 1F80h, vectors zero: RESET (INIT leaves the FPU alone).
void reset(Cpu &cpu);

} // namespace abyme::soft::hostexec
