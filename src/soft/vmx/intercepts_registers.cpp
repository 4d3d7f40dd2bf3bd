// Accesses to control and debug registers in non-root operation: SDM 3C §26.1.3, §26.3; qualifications of tables 28-3
// and 28-4.
#include "soft/vmx/exit.hpp"

namespace abyme::soft::vmx {
namespace {

using x86::ExitReason;
namespace primary = x86::primary;

enum class CrAccess : u8 { MovTo = 0, MovFrom = 1, Clts = 2, Lmsw = 3 };

[[nodiscard]] u64 cr_qualification(unsigned cr, CrAccess access, unsigned gpr = 0) {
  return cr | static_cast<u64>(access) << 4 | static_cast<u64>(gpr) << 8;
}

bool exit_for_cr(Cpu &cpu, const Op &op, u64 qualification) {
  exit_for_instruction(cpu, op, ExitReason::CrAccess, qualification);
  return true;
}

// A write that differs from the read shadow in a bit that the host owns exits; otherwise the host's bits keep what they
// are.
[[nodiscard]] bool masked_write_exits(u64 &value, u64 mask, u64 shadow, u64 real) {
  if ((value ^ shadow) & mask) return true;
  value = (value & ~mask) | (real & mask);
  return false;
}

[[nodiscard]] bool is_cr3_target(const Vmcs &vmcs, u64 value) {
  for (unsigned n = 0; n < vmcs[Field::Cr3TargetCount]; n++)
    if (vmcs[nth(Field::Cr3Target0, n)] == value) return true;
  return false;
}

} // namespace

bool intercepts_cr_write(Cpu &cpu, const Op &op, unsigned cr, unsigned gpr, u64 &value) {
  if (!non_root(cpu)) return false;
  const Vmcs &vmcs = cpu.vmx->vmcs;
  bool exits = false;
  switch (cr) {
  case 0: exits = masked_write_exits(value, vmcs[Field::Cr0Mask], vmcs[Field::Cr0ReadShadow], cpu.cr0); break;
  case 3: exits = primary_on(cpu, primary::Cr3LoadExiting) && !is_cr3_target(vmcs, value); break;
  case 4: exits = masked_write_exits(value, vmcs[Field::Cr4Mask], vmcs[Field::Cr4ReadShadow], cpu.cr4); break;
  case 8: exits = primary_on(cpu, primary::Cr8LoadExiting); break;
  default: break;
  }
  return exits && exit_for_cr(cpu, op, cr_qualification(cr, CrAccess::MovTo, gpr));
}

bool intercepts_cr_read(Cpu &cpu, const Op &op, unsigned cr, unsigned gpr) {
  const bool exits =
      (cr == 3 && primary_on(cpu, primary::Cr3StoreExiting)) || (cr == 8 && primary_on(cpu, primary::Cr8StoreExiting));
  return exits && exit_for_cr(cpu, op, cr_qualification(cr, CrAccess::MovFrom, gpr));
}

bool intercepts_clts(Cpu &cpu, const Op &op, bool &clear_ts) {
  clear_ts = true;
  if (!non_root(cpu)) return false;
  const Vmcs &vmcs = cpu.vmx->vmcs;
  if (!(vmcs[Field::Cr0Mask] & x86::cr0::TS)) return false;
  clear_ts = false;
  return (vmcs[Field::Cr0ReadShadow] & x86::cr0::TS) && exit_for_cr(cpu, op, cr_qualification(0, CrAccess::Clts));
}

bool intercepts_lmsw(Cpu &cpu, const Op &op, u16 &source, u64 linear) {
  if (!non_root(cpu)) return false;
  constexpr u64 kClearable = x86::cr0::MP | x86::cr0::EM | x86::cr0::TS;
  const Vmcs &vmcs = cpu.vmx->vmcs;
  const u64 mask = vmcs[Field::Cr0Mask], shadow = vmcs[Field::Cr0ReadShadow];
  const bool sets_pe = mask & source & ~shadow & x86::cr0::PE; // LMSW never clears PE
  if (sets_pe || ((source ^ shadow) & mask & kClearable)) {
    const bool memory = op.flags & kOpMemory;
    vm_exit(cpu, {.reason = ExitReason::CrAccess,
                  .qualification =
                      cr_qualification(0, CrAccess::Lmsw) | (memory ? 1 << 6 : 0) | static_cast<u64>(source) << 16,
                  .length = op.length,
                  .linear = memory ? linear : 0,
                  .rf = SavedRf::Clear});
    return true;
  }
  source = static_cast<u16>((source & ~(mask & 15)) | (cpu.cr0 & mask & 15));
  return false;
}

bool intercepts_dr(Cpu &cpu, const Op &op, unsigned dr, unsigned gpr, bool write) {
  if (!primary_on(cpu, primary::MovDrExiting)) return false;
  exit_for_instruction(cpu, op, ExitReason::DrAccess, dr | (write ? 0 : 1 << 4) | static_cast<u64>(gpr) << 8);
  return true;
}

u64 visible_cr0(const Cpu &cpu) {
  if (!non_root(cpu)) return cpu.cr0;
  const Vmcs &vmcs = cpu.vmx->vmcs;
  const u64 mask = vmcs[Field::Cr0Mask];
  return (cpu.cr0 & ~mask) | (vmcs[Field::Cr0ReadShadow] & mask);
}

u64 visible_cr4(const Cpu &cpu) {
  if (!non_root(cpu)) return cpu.cr4;
  const Vmcs &vmcs = cpu.vmx->vmcs;
  const u64 mask = vmcs[Field::Cr4Mask];
  return (cpu.cr4 & ~mask) | (vmcs[Field::Cr4ReadShadow] & mask);
}

} // namespace abyme::soft::vmx
