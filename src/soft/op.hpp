#pragma once
#include "base/int.hpp"

namespace abyme::soft {

struct Cpu;
struct Op;

// A hot handler: does the instruction and tail-calls the next one's; returns (nullptr, or in builds without sibling calls the next Op)
// only to leave the block. See interp/dispatch.hpp.
using Handler = const Op *(*)(Cpu &, const Op *);

// What an instruction that is not on the hot path did. Before it is called cpu.rip is the instruction's RIP and cpu.next_rip the next one's.
enum class Outcome : u8 {
  Next,   // done: goes on at next_rip in the same block
  Branch, // done: cpu.rip is where to go on (a jump, a VM entry or exit, a change of mode, a serializing instruction)
  Fault,  // cpu.fault says what happened; nothing architectural has changed
};
using SlowHandler = Outcome (*)(Cpu &, const Op &);

// One decoded instruction: what the interpreter runs and the translator will read. Registers are byte offsets into Cpu::gpr, so that AH is
// RAX + 1 and "no register" is a slot that holds zero.
struct Op {
  Handler handler;
  union {
    SlowHandler slow;  // for interp::run_slow
    const void *data;  // a handler's own: a host stub, a linked block
  };
  i64 imm;          // sign-extended to 64 bits; a direct branch's target minus the start of its page (see Cpu::gpr[kRipSlot])
  i32 disp;         // of the memory operand; for RIP-relative ones from the start of the instruction's page
  u8 reg;           // ModRM.reg operand, or the register that the opcode names
  u8 rm;            // ModRM.rm operand where it is a register
  u8 base, index;   // of the memory operand
  u8 scale;         // shift count of the index
  u8 segment;       // x86::Seg, or kFlat where its base is known to be 0 and its limit is not checked
  u8 size;          // operand size in bytes
  u8 address_size;  // in bytes
  u8 flags;         // OpFlag
  u8 length;        // in bytes
  u16 offset;       // of the first byte in its page
  u16 mnemonic;     // ZydisMnemonic
  u8 condition;     // of Jcc, SETcc, CMOVcc: the low four bits of the opcode
  u8 reg_index;     // ModRM.reg as a number (REX.R included): segment, control and debug registers

  static constexpr u8 kFlat = 6;
  static constexpr u8 kZeroSlot = 16 * 8;
  static constexpr u8 kRipSlot = 17 * 8; // RIP of the first byte of the page that the block lies in
};

enum OpFlag : u8 {
  kOpMemory = 1,   // the ModRM.rm operand is memory
  kOpLock = 2,     // LOCK prefix
  kOpRep = 4,      // REP/REPE
  kOpRepne = 8,    // REPNE
  kOpHasSib = 16,
  kOpStackSegment = 32, // segment is kFlat but stands for SS: a violation is #SS
};

} // namespace abyme::soft
