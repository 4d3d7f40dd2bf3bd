#pragma once
#include "soft/cpu.hpp"
#include <Zydis/Zydis.h>

// Instructions that execute on the host's own units: x87, MMX, SSE, AVX, AES, SHA, BMI and the rarer general-purpose
// ones. Each distinct encoding becomes a small host stub once: load the guest registers it reads, run the instruction
// itself with its memory operand redirected, store what it wrote.
namespace abyme::soft::hostexec {

// Makes and frees what translate() needs; create() before anything else here is called on this vCPU.
void create(Cpu &cpu);
void destroy(Cpu &cpu);

// Fills op.handler/op.data when this instruction is hostexec's. False: it is not, or the profile lacks its feature (the
// decoder then makes it #UD). `op` already has its generic fields (registers, memory operand, length).
[[nodiscard]] bool translate(Cpu &cpu, const ZydisDecodedInstruction &instruction, const ZydisDecodedOperand *operands,
                             Op &op);

// Stubs live until they are cleared, so a guest that makes up ever new encodings fills the arena. When this is true,
// the caller drops every decoded block of this vCPU, then calls clear().
[[nodiscard]] bool full(const Cpu &cpu);
void clear(Cpu &cpu);

// Recomputes Cpu::gates: after a change of CR0, CR4, XCR0, MXCSR or the mode. Part of mode_changed().
void update_gates(Cpu &cpu);

// Before and after a vCPU's thread runs guest code: the host's MXCSR holds the guest's rounding, DAZ and FTZ with all
// exceptions masked in between, and the host's x87 unit may hold the guest's state.
void enter(Cpu &cpu);
void leave(Cpu &cpu);
// Make cpu.mxcsr and cpu.x87 complete, between enter() and leave(); outside they are.
void sync_mxcsr(Cpu &cpu);
void sync_x87(Cpu &cpu);

// x87 and vector state after RESET (SDM 3A table 10-1); INIT leaves it alone.
void reset(Cpu &cpu);

} // namespace abyme::soft::hostexec
