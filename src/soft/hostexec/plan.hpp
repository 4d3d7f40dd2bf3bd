#pragma once
#include "soft/interp/dispatch.hpp"
#include <Zydis/Zydis.h>

// What translate() leaves behind an op: how to execute one encoding of one instruction.
namespace abyme::soft::hostexec {

// Why instructions of a unit cannot simply execute: bits of Cpu::gates.
enum Gate : u8 {
  kGateX87 = 1,      // CR0.EM or CR0.TS
  kGateSse = 2,      // CR0.EM, CR0.TS or not CR4.OSFXSR
  kGateAvx = 4,      // as kGateVex, or CR0.TS, not CR4.OSXSAVE, or XCR0 lacks SSE or AVX
  kGateVex = 8,      // real-address or virtual-8086 mode
  kGateX87Cold = 16, // the host's x87 unit does not hold the guest's state
  kGateUnmasked = 32 // MXCSR has an unmasked exception
};

// Which checks an instruction makes before it executes (SDM 2A §2.4, 3A tables 2-2, 13-1).
enum class Unit : u8 { General, GeneralVex, X87, X87Control, Mmx, MmxSse, Sse, Avx };

[[nodiscard]] constexpr u8 gates_of(Unit unit) {
  switch (unit) {
  case Unit::General: return 0;
  case Unit::GeneralVex: return kGateVex;
  case Unit::X87:
  case Unit::X87Control:
  case Unit::Mmx: return kGateX87 | kGateX87Cold;
  case Unit::MmxSse: return kGateX87 | kGateX87Cold | kGateSse | kGateUnmasked;
  case Unit::Sse: return kGateSse | kGateUnmasked;
  case Unit::Avx: return kGateAvx | kGateUnmasked;
  }
  return 0;
}
[[nodiscard]] constexpr bool uses_x87(Unit unit) {
  return unit == Unit::X87 || unit == Unit::X87Control || unit == Unit::Mmx || unit == Unit::MmxSse;
}

using Stub = void (*)(Cpu *cpu, void *memory);

struct Plan;
// An instruction written by hand. cpu.rip and cpu.next_rip are set, the gates have been passed.
using Manual = Outcome (*)(Cpu &cpu, const Op &op, const Plan &plan);

struct Plan {
  Stub stub = nullptr;
  Manual manual = nullptr;
  Unit unit = Unit::General;
  u8 gates = 0;
  u8 alignment = 1;   // of the memory operand: #GP(0) otherwise
  bool reads = false; // the memory operand
  bool writes = false;
  bool waits = false;    // x87: #MF first when an exception is pending
  u16 size = 0;          // of the memory operand in bytes
  u16 mnemonic = 0;      // ZydisMnemonic
  u16 fop = 0;           // x87: the last-instruction opcode
  u16 operand_width = 0; // in bits
  // Of those written by hand: numbers of the vector registers and sizes in bytes.
  u8 reg = 0, vvvv = 0, rm = 0, index = 0;
  u8 vector_size = 16;
  u8 element = 0, index_element = 0;
  bool rex_w = false;
  bool vex = false;
  u8 imm = 0;
};

[[nodiscard]] inline const Plan &plan_of(const Op &op) { return *static_cast<const Plan *>(op.data); }

// The checks behind the gates, in the manual's order, and what they find: #UD, #NM or #MF, raised; or, after loading
// the x87 unit if that is what was missing, true.
[[nodiscard]] bool admit(Cpu &cpu, const Plan &plan);

// Executes a stub's instruction however its memory operand lies. False: cpu.fault.
[[nodiscard]] bool execute_memory(Cpu &cpu, const Op &op, const Plan &plan);
// The same while the guest has SIMD exceptions unmasked: #XM (or #UD) before anything has changed.
[[nodiscard]] bool execute_unmasked(Cpu &cpu, const Op &op, const Plan &plan);
// The memory operand's linear address, after its alignment check.
[[nodiscard]] bool locate(Cpu &cpu, const Op &op, const Plan &plan, u64 &linear);

// Handlers.
const Op *run_registers(Cpu &cpu, const Op *op);
const Op *run_memory(Cpu &cpu, const Op *op);
const Op *run_x87(Cpu &cpu, const Op *op);
const Op *run_manual(Cpu &cpu, const Op *op);
const Op *run_nothing(Cpu &cpu, const Op *op);
const Op *run_fence(Cpu &cpu, const Op *op);

} // namespace abyme::soft::hostexec
