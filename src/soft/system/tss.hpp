#pragma once
#include "soft/system/descriptor.hpp"

// Fields of the task-state segment that TR points to (SDM 3A §7.2.1, §7.6, §7.7).
namespace abyme::soft::system {

[[nodiscard]] constexpr u32 tss_rsp_offset(u8 cpl) { return 4 + cpl * 8u; }
[[nodiscard]] constexpr u32 tss_ist_offset(unsigned ist) { return 28 + ist * 8u; }

[[nodiscard]] inline bool tss_is_32(const Cpu &cpu) { return cpu.tr.type() & 8; }

// A stack pointer of the 64-bit TSS: beyond its limit #TS(TR + ext), not canonical #SS(ext).
[[nodiscard]] bool read_tss_rsp(Cpu &cpu, u32 offset, u32 ext, u64 &rsp);
// SS:ESP of level `cpl` from the 16-bit or 32-bit TSS: beyond its limit #TS(TR + ext).
[[nodiscard]] bool read_tss_stack(Cpu &cpu, u8 cpl, u32 ext, u16 &ss, u32 &esp);
// `size` bytes at `offset`; `inside` false when they lie beyond the limit.
[[nodiscard]] bool read_tss(Cpu &cpu, u32 offset, void *to, unsigned size, bool &inside);
// The bit of the interrupt redirection map for INT `vector` in virtual-8086 mode with VME (SDM 3B §21.3.3.4).
[[nodiscard]] bool read_redirection(Cpu &cpu, u8 vector, bool &redirected);

} // namespace abyme::soft::system
