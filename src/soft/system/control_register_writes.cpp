#include "soft/mmu/access.hpp"
#include "soft/system/control_registers.hpp"
#include "soft/system/descriptor.hpp"
#include "soft/system/system.hpp"
#include "soft/vmx/vmx.hpp"
#include <span>

// What control registers may become, and what follows from it (SDM 3A §2.5, SDM 2B MOV to CR).
namespace abyme::soft::system {

using namespace x86;

namespace {

struct FeatureBit {
  Feature feature;
  u64 bit;
};

constexpr FeatureBit kCr4Bits[] = {
    {Feature::vme, cr4::VME | cr4::PVI},
    {Feature::tsc, cr4::TSD},
    {Feature::de, cr4::DE},
    {Feature::pse, cr4::PSE},
    {Feature::pae, cr4::PAE},
    {Feature::mce, cr4::MCE},
    {Feature::pge, cr4::PGE},
    {Feature::fxsr, cr4::OSFXSR},
    {Feature::sse, cr4::OSXMMEXCPT},
    {Feature::umip, cr4::UMIP},
    {Feature::la57, cr4::LA57},
    {Feature::vmx, cr4::VMXE},
    {Feature::fsgsbase, cr4::FSGSBASE},
    {Feature::pcid, cr4::PCIDE},
    {Feature::xsave, cr4::OSXSAVE},
    {Feature::smep, cr4::SMEP},
    {Feature::smap, cr4::SMAP},
    {Feature::pku, cr4::PKE},
    {Feature::pks, cr4::PKS},
};

constexpr FeatureBit kEferBits[] = {
    {Feature::syscall, efer::SCE},
    {Feature::lm, efer::LME},
    {Feature::nx, efer::NXE},
};

u64 sum_of(const CpuProfile &profile, std::span<const FeatureBit> table) {
  u64 bits = 0;
  for (const FeatureBit &row : table) bits |= profile.has(row.feature) ? row.bit : 0;
  return bits;
}

bool pae_paging(const Cpu &cpu, u64 cr0, u64 cr4) { return cr0 & cr0::PG && cr4 & cr4::PAE && !(cpu.efer & efer::LME); }

// The rules that tie CR0's bits to one another and to the rest of the CPU.
bool cr0_valid(const Cpu &cpu, u64 value) {
  bool paging = value & cr0::PG, was_paging = cpu.cr0 & cr0::PG;
  if (value >> 32 || (paging && !(value & cr0::PE)) || (value & cr0::NW && !(value & cr0::CD))) return false;
  if (!paging && was_paging && (cpu.code64() || cpu.cr4 & cr4::PCIDE)) return false;
  if (paging && !was_paging && cpu.efer & efer::LME) {
    bool tss16 = cpu.tr.usable() && !(cpu.tr.type() & 8);
    if (!(cpu.cr4 & cr4::PAE) || cpu.segments[CS].is_long() || tss16) return false;
  }
  return vmx::cr0_allowed(cpu, value);
}

bool cr4_valid(const Cpu &cpu, u64 value) {
  u64 changed = value ^ cpu.cr4;
  if (value & ~cr4_writable(*cpu.profile)) return false;
  if (cpu.long_mode() && (!(value & cr4::PAE) || changed & cr4::LA57)) return false;
  if (changed & value & cr4::PCIDE && (!cpu.long_mode() || cpu.cr3 & 0xFFF)) return false;
  return vmx::cr4_allowed(cpu, value);
}

u64 cr3_reserved(const Cpu &cpu) {
  constexpr u64 kNoFlush = 1ull << 63;
  u64 beyond = ~0ull << cpu.profile->physical_bits;
  return cpu.cr4 & cr4::PCIDE ? beyond & ~kNoFlush : beyond;
}

// The PDPTEs are registers: they change when CR3 does, or what they mean (SDM 3A §4.4.1).
bool reload_pdptes(Cpu &cpu, u64 cr3) {
  u64 pdpte[4];
  if (!mmu::load_pdptes(cpu, cr3, pdpte)) return cpu.fault.kind == Fault::Kind::None ? fail(cpu, GP, 0) : false;
  for (unsigned i = 0; i < 4; i++) cpu.pdpte[i] = pdpte[i];
  return true;
}

} // namespace

u64 cr4_writable(const CpuProfile &profile) { return sum_of(profile, kCr4Bits) | cr4::PCE; }
u64 efer_writable(const CpuProfile &profile) { return sum_of(profile, kEferBits); }

bool write_cr0(Cpu &cpu, u64 value) {
  constexpr u64 kWritable =
      cr0::PE | cr0::MP | cr0::EM | cr0::TS | cr0::NE | cr0::WP | cr0::AM | cr0::NW | cr0::CD | cr0::PG;
  if (!cr0_valid(cpu, value)) return fail(cpu, GP, 0);
  value = (value & kWritable) | cr0::ET;
  u64 changed = value ^ cpu.cr0;
  if (pae_paging(cpu, value, cpu.cr4) && changed & (cr0::PG | cr0::CD | cr0::NW)) {
    cpu.fault.kind = Fault::Kind::None;
    if (!reload_pdptes(cpu, cpu.cr3)) return false;
  }
  cpu.cr0 = value;
  if (value & cr0::PG && cpu.efer & efer::LME)
    cpu.efer |= efer::LMA;
  else
    cpu.efer &= ~efer::LMA;
  // With PE the level is that of SS; without it, 0.
  if (!(value & cr0::PE)) cpu.cpl = 0;
  if (changed & (cr0::PG | cr0::WP | cr0::PE)) mmu::flush_context(cpu, false);
  mode_changed(cpu);
  return true;
}

bool write_cr3(Cpu &cpu, u64 value) {
  constexpr u64 kNoFlush = 1ull << 63;
  if (cpu.long_mode() && value & cr3_reserved(cpu)) return fail(cpu, GP, 0);
  bool keep = cpu.cr4 & cr4::PCIDE && value & kNoFlush;
  value &= ~kNoFlush;
  if (pae_paging(cpu, cpu.cr0, cpu.cr4)) {
    cpu.fault.kind = Fault::Kind::None;
    if (!reload_pdptes(cpu, value)) return false;
  }
  cpu.cr3 = value;
  mmu::select_context(cpu);
  if (!keep) mmu::flush_context(cpu, true);
  return true;
}

bool write_cr4(Cpu &cpu, u64 value) {
  constexpr u64 kPaging =
      cr4::PSE | cr4::PAE | cr4::PGE | cr4::PCIDE | cr4::SMEP | cr4::SMAP | cr4::LA57 | cr4::PKE | cr4::PKS;
  constexpr u64 kPdpteReload = cr4::PSE | cr4::PAE | cr4::PGE | cr4::SMEP;
  if (!cr4_valid(cpu, value)) return fail(cpu, GP, 0);
  u64 changed = value ^ cpu.cr4;
  if (pae_paging(cpu, cpu.cr0, value) && changed & kPdpteReload) {
    cpu.fault.kind = Fault::Kind::None;
    if (!reload_pdptes(cpu, cpu.cr3)) return false;
  }
  cpu.cr4 = value;
  if (changed & kPaging) mmu::flush_context(cpu, false);
  mmu::select_context(cpu);
  mode_changed(cpu);
  return true;
}

bool write_efer(Cpu &cpu, u64 value) {
  u64 writable = efer_writable(*cpu.profile);
  u64 changed = value ^ cpu.efer;
  // LMA follows CR0.PG and LME; a value written to it is ignored.
  if (value & ~(writable | efer::LMA) || (changed & efer::LME && cpu.cr0 & cr0::PG)) return fail(cpu, GP, 0);
  cpu.efer = (value & writable) | (cpu.efer & efer::LMA);
  if (changed & efer::NXE) mmu::flush_context(cpu, false);
  mode_changed(cpu);
  return true;
}

bool write_xcr0(Cpu &cpu, u64 value) {
  constexpr u64 kX87 = 1, kSse = 2, kAvx = 4, kAvx512 = 7 << 5;
  bool avx_without_sse = (value & kAvx) && !(value & kSse);
  bool avx512_without_rest = value & kAvx512 && ((value & kAvx512) != kAvx512 || !(value & kAvx));
  if (!(value & kX87) || value & ~cpu.profile->xcr0_mask || avx_without_sse || avx512_without_rest)
    return fail(cpu, GP, 0);
  cpu.xcr0 = value;
  mode_changed(cpu);
  return true;
}

} // namespace abyme::soft::system
