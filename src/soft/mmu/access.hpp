#pragma once
#include "soft/cpu.hpp"

// Memory as instructions see it. Every function that can fail returns false (or nullptr) with cpu.fault set; nothing has been written then.
namespace abyme::soft {

// With whose rights an access is made: the CPL's, or, for descriptor tables, TSS and the stack of a more privileged handler, the
// supervisor's whatever the CPL (SDM 3A §4.6.1 "implicit supervisor-mode access").
enum class As : u8 { Cpl, Supervisor };

// --- linear addresses: any size up to 4096, across pages, RAM or MMIO ---
[[nodiscard]] bool read_linear(Cpu &cpu, u64 linear, void *to, unsigned size, As as = As::Cpl);
[[nodiscard]] bool write_linear(Cpu &cpu, u64 linear, const void *from, unsigned size, As as = As::Cpl);
// Faults exactly as a write of the range would, writes nothing.
[[nodiscard]] bool probe_write(Cpu &cpu, u64 linear, unsigned size, As as = As::Cpl);
[[nodiscard]] bool probe_read(Cpu &cpu, u64 linear, unsigned size, As as = As::Cpl);

template <class T> [[nodiscard]] bool read_linear(Cpu &cpu, u64 linear, T &value, As as = As::Cpl) {
  return read_linear(cpu, linear, &value, sizeof value, as);
}
template <class T> [[nodiscard]] bool write_linear(Cpu &cpu, u64 linear, const T &value, As as = As::Cpl) {
  return write_linear(cpu, linear, &value, sizeof value, as);
}

// Host pointer to [linear, linear + size) for reading (or, with `write`, reading and writing) when the range lies in one page of RAM.
// nullptr with fault.kind == None: no such pointer (MMIO, page crossing, code on write): use read_linear/write_linear. nullptr with a fault:
// the access faults. A page that holds code is never given out for writing.
[[nodiscard]] u8 *host_pointer(Cpu &cpu, u64 linear, unsigned size, bool write, As as = As::Cpl);

// --- segmented addresses: the memory operand of an instruction ---
// Offset of the memory operand inside its segment, truncated to the address size.
[[nodiscard]] u64 effective_address(const Cpu &cpu, const Op &op);
// The segment whose checks and violations are the memory operand's.
[[nodiscard]] inline u8 operand_segment(const Op &op) {
  return op.segment == Op::kFlat && (op.flags & kOpStackSegment) ? static_cast<u8>(x86::SS) : op.segment;
}
// Offset -> linear address, with the segment's checks (limit, type, null; canonical in 64-bit mode): #GP(0), or #SS(0) for SS.
[[nodiscard]] bool to_linear(Cpu &cpu, u8 segment, u64 offset, unsigned size, bool write, u64 &linear);
// Both of the above for op's memory operand, then the access. 64-bit mode without FS/GS costs next to nothing extra.
[[nodiscard]] bool operand_linear(Cpu &cpu, const Op &op, unsigned size, bool write, u64 &linear);
[[nodiscard]] bool read_operand(Cpu &cpu, const Op &op, void *to, unsigned size);
[[nodiscard]] bool write_operand(Cpu &cpu, const Op &op, const void *from, unsigned size);

// --- physical addresses of this VM (L1's): VMCSs, bitmaps, paging structures ---
[[nodiscard]] bool read_physical(Cpu &cpu, u64 physical, void *to, unsigned size);       // false: not RAM (nothing in cpu.fault)
[[nodiscard]] bool write_physical(Cpu &cpu, u64 physical, const void *from, unsigned size);

// --- translation, for instructions and VT-x that need an address and no data ---
struct Translation {
  u64 physical;      // this VM's (L1's) physical address
  bool valid;        // else cpu.fault says why
};
[[nodiscard]] Translation translate(Cpu &cpu, u64 linear, bool write, bool fetch, As as = As::Cpl);
// Of an L2-physical address through the current EPT (read access); the identity without EPT.
[[nodiscard]] Translation translate_guest_physical(Cpu &cpu, u64 guest_physical, bool write);

// --- invalidation ---
namespace mmu {
void flush_all(Cpu &cpu);                                     // every translation of every VPID, PCID and EPTP
void flush_context(Cpu &cpu, bool keep_global);               // the current VPID: MOV to CR3 (current PCID, globals stay), MOV to CR4 (all)
void flush_page(Cpu &cpu, u64 linear);                        // INVLPG: current PCID and globals
enum class InvpcidType : u8 { Address = 0, Context = 1, AllWithGlobals = 2, AllButGlobals = 3 };
void invalidate_pcid(Cpu &cpu, InvpcidType type, u16 pcid, u64 linear);
enum class InvvpidType : u8 { Address = 0, Context = 1, All = 2, ContextButGlobals = 3 };
void invalidate_vpid(Cpu &cpu, InvvpidType type, u16 vpid, u64 linear);
void invalidate_ept(Cpu &cpu, bool all, u64 eptp);
// CR3 (PCID), VPID, EPTP or the privilege changed: selects the context to look translations up in; flushes nothing.
void select_context(Cpu &cpu);
// PAE paging: loads the four PDPTEs from CR3. False: one has reserved bits set (#GP(0), or a VM-entry failure).
[[nodiscard]] bool load_pdptes(Cpu &cpu, u64 cr3, u64 (&pdpte)[4]);
} // namespace mmu

} // namespace abyme::soft
