#pragma once
#include "soft/hostexec/plan.hpp"

// Instructions written by hand: what touches memory in parts, or state that stubs do not hold.
namespace abyme::soft::hostexec {

// The handler of a mnemonic that no stub executes, or nullptr.
[[nodiscard]] Manual manual_of(ZydisMnemonic mnemonic);

Outcome gather(Cpu &cpu, const Op &op, const Plan &plan);
Outcome masked_load(Cpu &cpu, const Op &op, const Plan &plan);
Outcome masked_store(Cpu &cpu, const Op &op, const Plan &plan);
Outcome masked_bytes(Cpu &cpu, const Op &op, const Plan &plan);     // MASKMOVDQU
Outcome masked_bytes_mmx(Cpu &cpu, const Op &op, const Plan &plan); // MASKMOVQ
Outcome vzeroupper(Cpu &cpu, const Op &op, const Plan &plan);
Outcome vzeroall(Cpu &cpu, const Op &op, const Plan &plan);
Outcome ldmxcsr(Cpu &cpu, const Op &op, const Plan &plan);
Outcome stmxcsr(Cpu &cpu, const Op &op, const Plan &plan);
Outcome random_number(Cpu &cpu, const Op &op, const Plan &plan); // RDRAND, RDSEED
Outcome flush_line(Cpu &cpu, const Op &op, const Plan &plan);    // CLFLUSH, CLFLUSHOPT, CLWB

Outcome fwait(Cpu &cpu, const Op &op, const Plan &plan);
Outcome fninit(Cpu &cpu, const Op &op, const Plan &plan);
Outcome fnclex(Cpu &cpu, const Op &op, const Plan &plan);
Outcome fldcw(Cpu &cpu, const Op &op, const Plan &plan);
Outcome fnstenv(Cpu &cpu, const Op &op, const Plan &plan);
Outcome fldenv(Cpu &cpu, const Op &op, const Plan &plan);
Outcome fnsave(Cpu &cpu, const Op &op, const Plan &plan);
Outcome frstor(Cpu &cpu, const Op &op, const Plan &plan);

Outcome fxsave(Cpu &cpu, const Op &op, const Plan &plan);
Outcome fxrstor(Cpu &cpu, const Op &op, const Plan &plan);
Outcome xsave(Cpu &cpu, const Op &op, const Plan &plan);
Outcome xsaveopt(Cpu &cpu, const Op &op, const Plan &plan);
Outcome xsavec(Cpu &cpu, const Op &op, const Plan &plan);
Outcome xsaves(Cpu &cpu, const Op &op, const Plan &plan);
Outcome xrstor(Cpu &cpu, const Op &op, const Plan &plan);
Outcome xrstors(Cpu &cpu, const Op &op, const Plan &plan);

Outcome aaa(Cpu &cpu, const Op &op, const Plan &plan);
Outcome aas(Cpu &cpu, const Op &op, const Plan &plan);
Outcome aam(Cpu &cpu, const Op &op, const Plan &plan);
Outcome aad(Cpu &cpu, const Op &op, const Plan &plan);
Outcome daa(Cpu &cpu, const Op &op, const Plan &plan);
Outcome das(Cpu &cpu, const Op &op, const Plan &plan);

} // namespace abyme::soft::hostexec
