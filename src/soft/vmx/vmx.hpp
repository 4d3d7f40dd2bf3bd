#pragma once
#include "soft/cpu.hpp"

// VT-x as the rest of the CPU calls it. Each hook is cheap when it has nothing to do and may be called in any VMX mode.
namespace abyme::soft::vmx {

[[nodiscard]] Vmx *create(Cpu &cpu);
void destroy(Vmx *vmx);
void reset(Cpu &cpu); // RESET; INIT leaves VMX state alone (it is blocked or exits)

// --- instructions (handlers for the decoder's table) ---
Outcome vmxon(Cpu &cpu, const Op &op);
Outcome vmxoff(Cpu &cpu, const Op &op);
Outcome vmclear(Cpu &cpu, const Op &op);
Outcome vmptrld(Cpu &cpu, const Op &op);
Outcome vmptrst(Cpu &cpu, const Op &op);
Outcome vmread(Cpu &cpu, const Op &op);
Outcome vmwrite(Cpu &cpu, const Op &op);
Outcome vmlaunch(Cpu &cpu, const Op &op);
Outcome vmresume(Cpu &cpu, const Op &op);
Outcome vmcall(Cpu &cpu, const Op &op);
Outcome vmfunc(Cpu &cpu, const Op &op);
Outcome invept(Cpu &cpu, const Op &op);
Outcome invvpid(Cpu &cpu, const Op &op);

// --- instruction intercepts: true when the instruction caused a VM exit; the handler then returns Outcome::Branch at
// once. They are called where the manual's priority puts them: after #UD and CPL checks that come first, before the
// instruction's own faults (SDM 3C §26.1.1). cpu.rip and op give the instruction. ---
enum class Instruction : u8 {
  Cpuid,
  Getsec,
  Hlt,
  Invd,
  Invlpg,
  Rdpmc,
  Rdtsc,
  Rdtscp,
  Rsm,
  Pause,
  Mwait,
  Monitor,
  Wbinvd,
  Xsetbv,
  Rdrand,
  Rdseed,
  Invpcid,
  Xsaves,
  Xrstors,
  Sgdt,
  Sidt,
  Lgdt,
  Lidt,
  Sldt,
  Str,
  Lldt,
  Ltr,
};
[[nodiscard]] bool intercepts(Cpu &cpu, const Op &op, Instruction what, u64 linear = 0);
// MOV to CRn: may change `value` to what really gets written under the guest/host masks. `gpr` is the register's
// number.
[[nodiscard]] bool intercepts_cr_write(Cpu &cpu, const Op &op, unsigned cr, unsigned gpr, u64 &value);
[[nodiscard]] bool intercepts_cr_read(Cpu &cpu, const Op &op, unsigned cr, unsigned gpr);
[[nodiscard]] bool intercepts_clts(Cpu &cpu, const Op &op,
                                   bool &clear_ts); // clear_ts false: executes without clearing TS
[[nodiscard]] bool intercepts_lmsw(Cpu &cpu, const Op &op, u16 &source, u64 linear);
[[nodiscard]] bool intercepts_dr(Cpu &cpu, const Op &op, unsigned dr, unsigned gpr, bool write);
[[nodiscard]] bool intercepts_rdmsr(Cpu &cpu, const Op &op, u32 msr);
[[nodiscard]] bool intercepts_wrmsr(Cpu &cpu, const Op &op, u32 msr);
struct IoAccess {
  u16 port;
  u8 size;
  bool in, string, rep, immediate;
  u64 linear; // of the string operand
};
[[nodiscard]] bool intercepts_io(Cpu &cpu, const Op &op, const IoAccess &io);
[[nodiscard]] bool
intercepts_task_switch(Cpu &cpu, u16 selector, unsigned source,
                       const Op *op); // source as in the qualification: 0 CALL, 1 IRET, 2 JMP, 3 gate in IDT
// CR0 and CR4 as MOV from CR, SMSW see them, under the guest/host masks and read shadows.
[[nodiscard]] u64 visible_cr0(const Cpu &cpu);
[[nodiscard]] u64 visible_cr4(const Cpu &cpu);
// TSC as RDTSC in the current mode returns it (offset and scaling of non-root operation).
[[nodiscard]] u64 guest_tsc(const Cpu &cpu, u64 tsc);
// The bits of CR0/CR4 that VMX operation fixes: MOV to CR that violates them is #GP(0) (SDM 3C §24.8).
[[nodiscard]] bool cr0_allowed(const Cpu &cpu, u64 value);
[[nodiscard]] bool cr4_allowed(const Cpu &cpu, u64 value);
// IRET in non-root operation with virtual NMIs, or that clears NMI blocking.
void on_iret(Cpu &cpu);
// XSETBV, RDTSCP, INVPCID, XSAVES: #UD when the control that enables them is 0 in non-root operation.
[[nodiscard]] bool enabled_in_guest(const Cpu &cpu, Instruction what);

// --- events ---
// An exception (or software interrupt) is about to be delivered through the IDT. True: it caused a VM exit instead.
[[nodiscard]] bool intercepts_event(Cpu &cpu, const Event &event);
[[nodiscard]] bool intercepts_triple_fault(Cpu &cpu);
// cpu.fault is an EptViolation, EptMisconfig or VmExit (what is_memory_exit() says): the VM exit, or #VE. cpu.rip is
// the instruction's.
void ept_fault(Cpu &cpu);
// Takes the bits that it deals with out of cpu.attention (in non-root operation those of NMI, INIT and SIPI that exit,
// and interrupts where they exit), and asks for kAttentionEvents again while something of its own may become due at the
// next boundary: the caller clears kAttentionEvents before the call, never after. At an instruction boundary with
// `attention` set: windows, preemption timer, MTF, posted and virtual interrupts, and an external interrupt, NMI, INIT
// or SIPI that exits. In the priority of SDM 3C §26.2. True: a VM exit happened.
[[nodiscard]] bool boundary_events(Cpu &cpu);
// Non-root operation in which such an event always exits: boundary_events() alone deals with it, it is never delivered.
[[nodiscard]] bool external_interrupts_exit(const Cpu &cpu);
[[nodiscard]] bool nmis_exit(const Cpu &cpu);
// Whether HLT in non-root operation should wake for something that is VT-x's own (preemption timer, windows).
[[nodiscard]] bool wakes(const Cpu &cpu);
// When the VMX-preemption timer expires: the run loop arms a timer that sets kAttentionPreemption. ~0: never.
[[nodiscard]] Nanoseconds next_deadline(const Cpu &cpu);
// Accesses of non-root operation to the APIC-access page and virtual-APIC page: called by the mmu on pages marked so.
// True: handled (virtualized), `value` holds what was read. False: cpu.fault is a VmExit.
struct ApicAccess {
  u64 offset;
  unsigned size;
  bool write, fetch;
  u64 linear;
};
[[nodiscard]] bool apic_access(Cpu &cpu, const ApicAccess &access, u64 &value, bool &exited);
[[nodiscard]] bool is_apic_access_page(const Cpu &cpu, u64 physical); // L1-physical page under EPT or not
// The mmu is about to set an EPT dirty bit: page-modification logging (SDM 3C §29.3.6). False: the log is full;
// cpu.fault is a VmExit.
[[nodiscard]] bool log_dirty(Cpu &cpu, u64 guest_physical);
// TPR shadow: MOV to/from CR8 in non-root operation. True: handled by VT-x.
[[nodiscard]] bool cr8_read(Cpu &cpu, const Op &op, u64 &value);
[[nodiscard]] bool cr8_write(Cpu &cpu, const Op &op, u64 value, bool &exited);
// x2APIC virtualization of MSRs 800H-8FFH. True: handled.
[[nodiscard]] bool apic_msr_read(Cpu &cpu, u32 msr, u64 &value);
enum class ApicMsrWrite : u8 { NotVirtualized, Done, GeneralProtection };
[[nodiscard]] ApicMsrWrite apic_msr_write(Cpu &cpu, u32 msr, u64 value);

// --- MSRs ---
// IA32_FEATURE_CONTROL, IA32_VMX_*: the value, or false for #GP(0).
[[nodiscard]] bool capability_msr(const Cpu &cpu, u32 msr, u64 &value);

} // namespace abyme::soft::vmx
