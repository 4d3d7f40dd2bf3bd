#include "soft/apic/local_apic.hpp"
#include "soft/system/instructions.hpp"
#include "soft/vmx/vmx.hpp"
#include "x86/msr.hpp"
#include <algorithm>

// CPUID: the profile's leaves, and what depends on the vCPU's number and state (SDM 2A CPUID).
namespace abyme::soft::system {

using namespace x86;

namespace {

constexpr u64 kCompactedHeader = 512 + 64;
constexpr u32 kAlign64 = 2; // ECX of a 0xD subleaf: starts at a multiple of 64 in the compacted format

// Bytes of the standard format that the components in `enabled` need: its last one's end.
u32 standard_size(const CpuProfile &profile, u64 enabled) {
  u32 size = kCompactedHeader;
  for (u32 i = 2; i < 63; i++) {
    if (!(enabled >> i & 1)) continue;
    CpuidLeaf component = profile.lookup(0xD, i);
    size = std::max(size, component.ebx + component.eax);
  }
  return size;
}

u32 compacted_size(const CpuProfile &profile, u64 enabled) {
  u32 size = kCompactedHeader;
  for (u32 i = 2; i < 63; i++) {
    if (!(enabled >> i & 1)) continue;
    CpuidLeaf component = profile.lookup(0xD, i);
    if (component.ecx & kAlign64) size = (size + 63) & ~63u;
    size += component.eax;
  }
  return size;
}

void set_bit(u32 &word, unsigned bit, bool on) { word = on ? word | 1u << bit : word & ~(1u << bit); }

void add_dynamic(const Cpu &cpu, u32 leaf, u32 subleaf, CpuidLeaf &r) {
  const CpuProfile &profile = *cpu.profile;
  constexpr unsigned kMonitor = 3, kApic = 9, kOsxsave = 27, kOspke = 4;
  switch (leaf) {
  case 1:
    r.ebx = (r.ebx & 0xFFFFFF) | cpu.index << 24;
    set_bit(r.ecx, kOsxsave, profile.has(Feature::xsave) && cpu.cr4 & cr4::OSXSAVE);
    if (!(cpu.msr.misc_enable & msr::misc_enable::MWAIT)) set_bit(r.ecx, kMonitor, false);
    if (!(cpu.apic->apic_base() & msr::apic_base::EN)) set_bit(r.edx, kApic, false);
    break;
  case 7:
    if (subleaf == 0) set_bit(r.ecx, kOspke, profile.has(Feature::pku) && cpu.cr4 & cr4::PKE);
    break;
  case 0xB:
  case 0x1F: r.edx = cpu.index; break;
  case 0xD:
    if (!profile.has(Feature::xsave)) break;
    if (subleaf == 0) r.ebx = standard_size(profile, cpu.xcr0);
    if (subleaf == 1) r.ebx = profile.has(Feature::xsavec) ? compacted_size(profile, cpu.xcr0 | cpu.msr.xss) : 0;
    break;
  case 0x80000001: {
    constexpr unsigned kSyscall = 11;
    // SYSCALL is reported in 64-bit mode only (SDM 2A CPUID).
    if (!cpu.code64()) set_bit(r.edx, kSyscall, false);
    break;
  }
  default: break;
  }
}

} // namespace

Outcome cpuid(Cpu &cpu, const Op &op) {
  if (vmx::intercepts(cpu, op, vmx::Instruction::Cpuid)) return Outcome::Branch;
  u32 leaf = low32(cpu, RAX), subleaf = low32(cpu, RCX);
  CpuidLeaf r = cpu.profile->lookup(leaf, subleaf);
  add_dynamic(cpu, r.leaf, subleaf, r);
  cpu.gpr[RAX] = r.eax;
  cpu.gpr[RBX] = r.ebx;
  cpu.gpr[RCX] = r.ecx;
  cpu.gpr[RDX] = r.edx;
  return Outcome::Next;
}

} // namespace abyme::soft::system
