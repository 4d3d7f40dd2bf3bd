#include "machine/boot/entry_state.hpp"

namespace abyme::machine::boot {
namespace {

using x86::Segment;

constexpr u16 kCodeSelector = 0x10;
constexpr u16 kDataSelector = 0x18;
constexpr u16 kTaskSelector = 0x20;

constexpr u32 kCode = 0xB; // execute, read, accessed
constexpr u32 kData = 0x3; // read, write, accessed
constexpr u32 kBusyTask = 0xB;

Segment flat(u16 selector, u32 type, u32 flags) {
  return {.base = 0,
          .limit = 0xFFFF'FFFF,
          .rights = type | Segment::kSystemBit | Segment::kPresent | Segment::kGranularity | flags,
          .selector = selector};
}

// A state in which VM entry succeeds too (SDM 3C §27.3.1.2): a busy task register, and no LDT.
void set_segments(x86::CpuState &state, u32 code_size) {
  state.segments.fill(flat(kDataSelector, kData, Segment::kBig));
  state.segments[x86::CS] = flat(kCodeSelector, kCode, code_size);
  state.tr = {.base = 0, .limit = 0x67, .rights = kBusyTask | Segment::kPresent, .selector = kTaskSelector};
  state.ldtr = {.base = 0, .limit = 0, .rights = Segment::kUnusable, .selector = 0};
}

// The descriptor (SDM 3A §3.4.5) that loads as `segment`.
u64 descriptor(const Segment &segment) {
  const u64 limit = segment.rights & Segment::kGranularity ? segment.limit >> 12 : segment.limit;
  const u64 base = segment.base;
  return (limit & 0xFFFF) | (base & 0xFF'FFFF) << 16 | u64{segment.rights & 0xFF} << 40 | (limit >> 16 & 0xF) << 48 |
         u64{segment.rights >> 12 & 0xF} << 52 | (base >> 24 & 0xFF) << 56;
}

Bytes global_descriptor_table(const x86::CpuState &state) {
  Bytes table(kTaskSelector + 16);
  put_le(table, kCodeSelector, descriptor(state.segments[x86::CS]));
  put_le(table, kDataSelector, descriptor(state.segments[x86::DS]));
  put_le(table, kTaskSelector, descriptor(state.tr));
  return table;
}

constexpr u64 kIdentityTables = 6; // PML4, PDPT and four page directories: 4 GiB in 2 MiB pages

Bytes identity_tables(Gpa at) {
  constexpr u64 kTable = 0x3;      // present, writable
  constexpr u64 kLargePage = 0x83; // and PS
  Bytes tables(kIdentityTables * kPageSize);
  put_le(tables, 0, (at.value + kPageSize) | kTable);
  for (u64 gib = 0; gib < 4; gib++) put_le(tables, kPageSize + gib * 8, (at.value + (2 + gib) * kPageSize) | kTable);
  for (u64 page = 0; page < 4 * 512; page++) put_le(tables, 2 * kPageSize + page * 8, page * 2_MiB | kLargePage);
  return tables;
}

} // namespace

x86::CpuState protected_mode_entry(Gpa entry) {
  x86::CpuState state;
  set_segments(state, Segment::kBig);
  state.rip = entry.value;
  state.rflags = x86::rflags::kFixed;
  state.cr0 = x86::cr0::PE | x86::cr0::ET;
  return state;
}

Result<x86::CpuState> long_mode_entry(Gpa entry, Placement &placement) {
  x86::CpuState state;
  set_segments(state, Segment::kLong);
  state.rip = entry.value;
  state.rflags = x86::rflags::kFixed;
  const Bytes gdt = global_descriptor_table(state);
  const auto gdt_at = placement.put_lowest(gdt, kLowMemory, "the boot GDT");
  if (!gdt_at) return std::unexpected(gdt_at.error());
  auto bounds = kLowMemory;
  bounds.alignment = kPageSize;
  const auto tables_at = placement.lowest(kIdentityTables * kPageSize, bounds, "the boot page tables");
  if (!tables_at) return std::unexpected(tables_at.error());
  placement.write(*tables_at, identity_tables(*tables_at));
  state.gdtr = {.base = gdt_at->value, .limit = static_cast<u16>(gdt.size() - 1)};
  state.cr0 = x86::cr0::PE | x86::cr0::ET | x86::cr0::NE | x86::cr0::PG;
  state.cr3 = tables_at->value;
  state.cr4 = x86::cr4::PAE;
  state.efer = x86::efer::LME | x86::efer::LMA;
  return state;
}

} // namespace abyme::machine::boot
