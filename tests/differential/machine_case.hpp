#pragma once
#include "base/int.hpp"
#include <cstring>

// One comparison of the software CPU with the host's: the state before, one instruction, the state after. Plain data:
// cases lie in memory that the native process shares.
namespace abyme::differential {

// Linear addresses, the same in the guest and in the native process. Beyond each area lies nothing.
constexpr u64 kCode = 0x2000'0000;
constexpr u64 kData = 0x1000'0000;
constexpr unsigned kPage = 4096;
constexpr unsigned kDataSize = 2 * kPage;
constexpr unsigned kCodeSize = 2 * kPage;

struct State {
  u64 gpr[16];
  u64 rip;
  u64 rflags;
  u32 mxcsr;
  u16 fcw, fsw;
  u8 tags; // abridged, as FXSAVE has them
  u16 fop;
  u64 fip, fdp;
  u8 st[8][16];
  alignas(32) u8 ymm[16][32];
};

// What stopped the instruction: an exception, or nothing.
struct Stop {
  bool fault;
  u8 vector;
  u32 error;
  u64 cr2; // of page faults
};

struct Outcome {
  State state;
  Stop stop;
  u8 data[kDataSize];
};

struct Case {
  u8 code[16];
  u8 length;
  u16 code_offset; // in the code area
  bool compatible; // 32-bit code, in compatibility mode
  bool repeats;    // single steps may stop before the instruction is done: REP string instructions, gathers
  State before;
  u8 data[kDataSize];
};

} // namespace abyme::differential
