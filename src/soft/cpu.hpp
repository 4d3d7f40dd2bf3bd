#pragma once
#include "base/clock.hpp"
#include "soft/event.hpp"
#include "soft/op.hpp"
#include "soft/tlb.hpp"
#include "x86/cpu_profile.hpp"
#include "x86/state.hpp"
#include <atomic>
#include <mutex>

namespace abyme {
class GuestMemory;
class IoHandler;
class ExternalInterrupts;
} // namespace abyme

namespace abyme::soft {

class LocalApic;
class BlockCache;
class Tracer;
namespace vmx {
struct Vmx;
}
namespace mmu {
struct Mmu;
}
namespace hostexec {
class Arena;
}

// Reasons for a vCPU to look up at the next block boundary. Set by any thread, cleared by the vCPU's own.
enum Attention : u32 {
  kAttentionInterrupt = 1 << 0,  // the LAPIC or the PIC may have something
  kAttentionNmi = 1 << 1,
  kAttentionInit = 1 << 2,
  kAttentionSipi = 1 << 3,
  kAttentionStop = 1 << 4,
  kAttentionCode = 1 << 5,       // other threads queued code-page work (BlockCache)
  kAttentionEvents = 1 << 6,     // own thread: re-evaluate pending debug traps, windows, shadows after this instruction
  kAttentionPreemption = 1 << 7, // the VMX-preemption timer expired
  kAttentionPosted = 1 << 8,     // a posted-interrupt notification
  kAttentionTrace = 1 << 9,      // set while blocks are traced: each is entered from the run loop
};

enum class Activity : u8 { Active = 0, Halted = 1, Shutdown = 2, WaitForSipi = 3 }; // numbers of the VMCS activity-state field

enum class VmxMode : u8 { Off, Root, NonRoot };

// Bits of Cpu::mode: everything that the meaning of code bytes and the choice of handlers depends on; part of a block's key.
enum ModeBit : u32 {
  kModeCode64 = 1 << 0,
  kModeCode32 = 1 << 1, // neither: 16-bit
  kModeStack32 = 1 << 2,
  kModeFlat = 1 << 3,   // ES, CS, SS and DS all have base 0 and no limit to check (always so in 64-bit mode)
  kModeLong = 1 << 4,   // EFER.LMA
  kModeReal = 1 << 5,   // CR0.PE clear
  kModeV86 = 1 << 6,
  kModeUser = 1 << 7,   // CPL 3
};

// What blocks events for one instruction (SDM 3C table 25-3, interruptibility).
enum Shadow : u8 { kShadowSti = 1, kShadowMovSs = 2 };

struct Msrs {
  u64 star, lstar, cstar, sfmask, kernel_gs_base;
  u64 sysenter_cs, sysenter_esp, sysenter_eip;
  u64 pat, tsc_aux, misc_enable, debugctl, spec_ctrl, xss, feature_control, perf_global_ctrl, smbase, bios_sign_id;
  u64 mtrr_def_type, mtrr_fixed[11], mtrr_base[8], mtrr_mask[8];
  u64 mcg_status, mcg_ctl;
};

// A vCPU: all of its architectural state, and what the interpreter needs at hand. Only its own thread touches it, but for `attention`.
struct alignas(64) Cpu {
  // --- hot ---
  u64 gpr[18];      // 16 registers; [16] is always 0; [17] is the RIP of the first byte of the running block's page (Op::kRipSlot)
  // Arithmetic flags as the host's LAHF and SETO leave them in AX: bit 15 SF, 14 ZF, 12 AF, 10 PF, 8 CF, bit 0 OF. Always current.
  u64 status;
  u64 rip;          // valid outside of blocks and in slow handlers
  u64 next_rip;     // valid in slow handlers
  std::atomic<u32> attention;
  u32 mode;         // ModeBit; kept by mode_changed()
  u64 tlb_context;  // low 12 bits of a tag for the current privilege; kept by mmu
  u64 tlb_salt;     // see Tlb::index
  u64 instructions; // retired
  Tlb *tlb;
  Fault fault;      // valid after Outcome::Fault or a false from an access function, until the run loop has dealt with it
  u64 rflags_rest;  // RFLAGS without the six arithmetic flags (bit 1 set, DF included); use rflags() and set_rflags()
  x86::Segment segments[7]; // [Op::kFlat] is flat for ever
  u8 cpl;
  u8 gates;         // hostexec::Gate: what keeps x87, MMX, SSE or AVX instructions from simply executing; kept by hostexec::update_gates()

  // --- control ---
  u64 cr0, cr2, cr3, cr4, efer, xcr0;
  u64 pdpte[4];     // PAE paging only
  u64 dr[4], dr6, dr7;
  x86::Segment ldtr, tr;
  x86::TableRegister gdtr, idtr;
  Msrs msr;
  i64 tsc_offset;   // guest TSC of VMX root = clock + tsc_offset (IA32_TSC writes, TSC_ADJUST)
  u64 tsc_adjust;

  // --- events ---
  Activity activity;
  u8 shadow;                // Shadow bits; blocks events until one more instruction has completed
  bool nmi_blocked;
  bool nmi_pending;
  bool interrupt_waiting;   // an interrupt was seen but could not be taken: look again when IF or a priority changes
  u64 pending_debug;        // DR6 bits to be delivered as a trap #DB before the next instruction
  bool delivering;          // `vectoring` is being delivered: what IDT-vectoring information must report
  Event vectoring;
  u8 sipi_vector;           // with kAttentionSipi

  // --- x87 and vectors: executed on the host's own units (hostexec/) ---
  alignas(64) u8 ymm[16][32];   // [n][0..15] is XMMn
  alignas(64) u8 x87[512];      // FXSAVE64 image; its XMM area is unused, MXCSR lives below
  u32 mxcsr;                    // the exception flags raised since enter() are still in the host's: hostexec::sync_mxcsr()
  bool x87_live;                // the host's x87 registers hold the guest's, x87[] is stale but for its pointers: hostexec::sync_x87()
  u16 x87_cs, x87_ds;           // FCS and FDS; the offsets and FOP are always current in x87[]
  hostexec::Arena *arena;       // host stubs; made by hostexec::create()

  // --- PAUSE ---
  u64 last_pause;           // `instructions` then
  u32 pauses;               // of one loop, in a row

  // --- VT-x ---
  VmxMode vmx_mode;
  bool ept_enabled;         // in non-root operation with EPT
  bool ept_mode_based;      // mode-based execute control
  u64 eptp;                 // valid while ept_enabled
  u16 vpid;                 // 0 in root operation and without VPID
  vmx::Vmx *vmx;            // everything else about VT-x; never null

  // --- surroundings ---
  unsigned index;           // number of this vCPU
  GuestMemory *memory;
  IoHandler *io;
  ExternalInterrupts *pic;
  LocalApic *apic;
  const Clock *clock;
  const x86::CpuProfile *profile;
  mmu::Mmu *mmu;
  BlockCache *blocks;
  std::mutex *bus_lock;     // of the VM: locked accesses that no single host instruction can do
  Tracer *tracer;           // null: no trace

  [[nodiscard]] bool long_mode() const { return efer & x86::efer::LMA; }
  [[nodiscard]] bool code64() const { return mode & kModeCode64; }
  [[nodiscard]] bool protected_mode() const { return cr0 & x86::cr0::PE; }
  [[nodiscard]] bool v86() const { return rflags_rest & x86::rflags::VM; }
  [[nodiscard]] unsigned iopl() const { return rflags_rest >> 12 & 3; }
  void need(u32 bits) { attention.fetch_or(bits, std::memory_order_seq_cst); }
};

// Flags. The packed form is that of Cpu::status.
[[nodiscard]] constexpr u64 unpack_status(u64 status) { return (status >> 8 & 0xD5) | (status & 1) << 11; }
[[nodiscard]] constexpr u64 pack_status(u64 rflags) { return (rflags & 0xD5) << 8 | (rflags >> 11 & 1); }
[[nodiscard]] inline u64 rflags(const Cpu &cpu) { return cpu.rflags_rest | unpack_status(cpu.status); }
// Stores RFLAGS as given (bit 1 set, reserved bits cleared). Where VM, AC or IF may have changed the caller also calls mode_changed().
inline void set_rflags(Cpu &cpu, u64 value) {
  constexpr u64 kDefined = 0x3F7FD5;
  cpu.status = pack_status(value);
  cpu.rflags_rest = (value & kDefined & ~x86::rflags::kStatus) | x86::rflags::kFixed;
}

// Recomputes `mode`, the CPL-dependent TLB context and what else hangs on CR0, CR4, EFER, RFLAGS.VM/AC, CPL or a segment register.
// To be called after any change of those, before the next instruction.
void mode_changed(Cpu &cpu);

// Stores a fault and returns Outcome::Fault, so that a handler can `return raise(...)`.
Outcome raise(Cpu &cpu, u8 vector);            // without an error code
Outcome raise(Cpu &cpu, u8 vector, u32 error); // with one
Outcome raise_internal(Cpu &cpu, const char *text);

// The TSC as code in VMX root operation (or without VMX) reads it.
[[nodiscard]] u64 tsc(const Cpu &cpu);

} // namespace abyme::soft
