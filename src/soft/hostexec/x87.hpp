#pragma once
#include "soft/hostexec/plan.hpp"
#include <cstring>

// The x87 unit. While guest code runs the host's registers may hold the guest's (Cpu::x87_live), all exceptions masked;
// with unmasked exceptions the state goes back to Cpu::x87 after each instruction, so that none is ever pending on the
// host. The pointers of the last instruction (FIP, FDP, FOP and the selectors) are kept in software always: the host's
// would point into stubs.
namespace abyme::soft::hostexec {

// Cpu::x87 as FXSAVE64 lays it out (SDM 1 table 10-2).
struct X87Image {
  u16 fcw, fsw;
  u8 tags; // a bit a register, set: not empty
  u8 reserved;
  u16 fop;
  u64 fip, fdp;
  u32 mxcsr, mxcsr_mask;
  u8 st[8][16]; // from the top of the stack; the MMX registers' bits too
};
[[nodiscard]] inline X87Image &image(Cpu &cpu) { return *reinterpret_cast<X87Image *>(cpu.x87); }

constexpr u16 kFcwReset = 0x037F;
constexpr u16 kX87Exceptions = 0x3F;
constexpr u16 kFswSummary = 0x80, kFswBusy = 0x8000;

// Makes TOP the number given. The registers stay where they are, so the image, which counts from the top, turns.
void set_top(X87Image &x, unsigned top);
// FSW.ES and B follow from flags and masks.
void update_summary(X87Image &x);
[[nodiscard]] bool exception_pending(Cpu &cpu); // the state must be synced

void note_pointers(Cpu &cpu, const Op &op, const Plan &plan);
// #NM, #MF; then the state is loaded.
[[nodiscard]] bool admit_x87(Cpu &cpu, const Plan &plan);
[[nodiscard]] bool admit_mmx(Cpu &cpu);
// After an instruction: the state stays on the host only while every exception is masked.
void settle_x87(Cpu &cpu);
// The host's x87 unit holds the guest's state.
void load_x87(Cpu &cpu);
// The host's x87 unit is free for others again; Cpu::x87 is complete.
void unload_x87(Cpu &cpu);

// FNINIT.
void initialize_x87(Cpu &cpu);

} // namespace abyme::soft::hostexec
