#pragma once
#include "base/int.hpp"
#include <array>

namespace abyme::x86 {

// A segment register with its hidden part. `rights` has the layout of a VMCS access-rights field (SDM 3C §25.4.1): bits 3:0 type,
// 4 S, 6:5 DPL, 7 P, 12 AVL, 13 L, 14 D/B, 15 G, 16 unusable. `limit` is in bytes, already scaled by G.
struct Segment {
  u64 base = 0;
  u32 limit = 0;
  u32 rights = 0;
  u16 selector = 0;

  static constexpr u32 kSystemBit = 1u << 4; // S: clear for system segments
  static constexpr u32 kPresent = 1u << 7;
  static constexpr u32 kAvl = 1u << 12;
  static constexpr u32 kLong = 1u << 13;
  static constexpr u32 kBig = 1u << 14;
  static constexpr u32 kGranularity = 1u << 15;
  static constexpr u32 kUnusable = 1u << 16;
  [[nodiscard]] constexpr u32 type() const { return rights & 15; }
  [[nodiscard]] constexpr u32 dpl() const { return rights >> 5 & 3; }
  [[nodiscard]] constexpr bool usable() const { return !(rights & kUnusable); }
  [[nodiscard]] constexpr bool is_long() const { return rights & kLong; }
  [[nodiscard]] constexpr bool big() const { return rights & kBig; }
  constexpr bool operator==(const Segment &) const = default;
};

// Index of a segment register, in instruction-encoding order.
enum Seg : u8 { ES, CS, SS, DS, FS, GS, kSegments };
// Index of a general-purpose register, in instruction-encoding order.
enum Gpr : u8 { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15, kGprs };

struct TableRegister {
  u64 base = 0;
  u16 limit = 0;
  constexpr bool operator==(const TableRegister &) const = default;
};

// What a boot protocol sets, and both engines can take over and give back. FPU and MSRs that have a reset value stay at it.
struct CpuState {
  std::array<u64, kGprs> gpr{};
  u64 rip = 0;
  u64 rflags = 2;
  std::array<Segment, kSegments> segments{};
  Segment ldtr, tr;
  TableRegister gdtr, idtr;
  u64 cr0 = 0, cr2 = 0, cr3 = 0, cr4 = 0, cr8 = 0, efer = 0;
  bool operator==(const CpuState &) const = default;
};

// The state after RESET (SDM 3A §10.1.1): real mode at F000:FFF0, base FFFF0000h.
[[nodiscard]] CpuState reset_state();

namespace cr0 {
constexpr u64 PE = 1 << 0, MP = 1 << 1, EM = 1 << 2, TS = 1 << 3, ET = 1 << 4, NE = 1 << 5, WP = 1 << 16, AM = 1 << 18;
constexpr u64 NW = 1 << 29, CD = 1 << 30, PG = 1u << 31;
} // namespace cr0
namespace cr4 {
constexpr u64 VME = 1 << 0, PVI = 1 << 1, TSD = 1 << 2, DE = 1 << 3, PSE = 1 << 4, PAE = 1 << 5, MCE = 1 << 6, PGE = 1 << 7;
constexpr u64 PCE = 1 << 8, OSFXSR = 1 << 9, OSXMMEXCPT = 1 << 10, UMIP = 1 << 11, LA57 = 1 << 12, VMXE = 1 << 13, SMXE = 1 << 14;
constexpr u64 FSGSBASE = 1 << 16, PCIDE = 1 << 17, OSXSAVE = 1 << 18, SMEP = 1 << 20, SMAP = 1 << 21, PKE = 1 << 22, CET = 1 << 23;
constexpr u64 PKS = 1 << 24;
} // namespace cr4
namespace efer {
constexpr u64 SCE = 1 << 0, LME = 1 << 8, LMA = 1 << 10, NXE = 1 << 11;
} // namespace efer
namespace rflags {
constexpr u64 CF = 1 << 0, PF = 1 << 2, AF = 1 << 4, ZF = 1 << 6, SF = 1 << 7, TF = 1 << 8, IF = 1 << 9, DF = 1 << 10, OF = 1 << 11;
constexpr u64 IOPL = 3 << 12, NT = 1 << 14, RF = 1 << 16, VM = 1 << 17, AC = 1 << 18, VIF = 1 << 19, VIP = 1 << 20, ID = 1 << 21;
constexpr u64 kFixed = 1 << 1;
constexpr u64 kStatus = CF | PF | AF | ZF | SF | OF;
} // namespace rflags

// Exception vectors (SDM 3A table 6-1).
enum Vector : u8 { DE = 0, DB = 1, NMI = 2, BP = 3, OF = 4, BR = 5, UD = 6, NM = 7, DF = 8, TS = 10, NP = 11, SS_ = 12, GP = 13, PF = 14, MF = 16, AC = 17, MC = 18, XM = 19, VE = 20, CP = 21 };

} // namespace abyme::x86
