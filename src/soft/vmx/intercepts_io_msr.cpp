// I/O and MSR accesses in non-root operation, with their bitmaps: SDM 3C §25.6.4, §25.6.9, §26.1.3.
#include "soft/vmx/exit.hpp"
#include "soft/vmx/instruction_information.hpp"

namespace abyme::soft::vmx {
namespace {

using x86::ExitReason;
namespace primary = x86::primary;

[[nodiscard]] bool bitmap_bit(const Cpu &cpu, u64 bitmap, u32 bit) {
  return load_physical<u8>(cpu, bitmap + bit / 8) >> (bit % 8) & 1;
}

// Four bitmaps of 1 KiB in one page: reads of low MSRs, reads of high ones, writes of low, writes of high.
[[nodiscard]] bool msr_exits(const Cpu &cpu, u32 msr, bool write) {
  constexpr u32 kHigh = 0xC000'0000, kMsrs = 0x2000;
  if (!primary_on(cpu, primary::UseMsrBitmaps)) return true;
  const u64 bitmap = cpu.vmx->vmcs[Field::MsrBitmap] + (write ? 2048 : 0);
  if (msr < kMsrs) return bitmap_bit(cpu, bitmap, msr);
  return msr - kHigh >= kMsrs || bitmap_bit(cpu, bitmap + 1024, msr - kHigh);
}

[[nodiscard]] bool port_exits(const Cpu &cpu, const IoAccess &io) {
  if (!primary_on(cpu, primary::UseIoBitmaps)) return primary_on(cpu, primary::UnconditionalIoExiting);
  if (io.port + io.size > 0x10000) return true; // wraps around the port space
  for (u32 port = io.port; port < static_cast<u32>(io.port) + io.size; port++) {
    const Field bitmap = port < 0x8000 ? Field::IoBitmapA : Field::IoBitmapB;
    if (bitmap_bit(cpu, cpu.vmx->vmcs[bitmap], port & 0x7FFF)) return true;
  }
  return false;
}

[[nodiscard]] u64 io_qualification(const IoAccess &io) {
  return (io.size - 1u) | (io.in ? 1 << 3 : 0) | (io.string ? 1 << 4 : 0) | (io.rep ? 1 << 5 : 0) |
         (io.immediate ? 1 << 6 : 0) | static_cast<u64>(io.port) << 16;
}

} // namespace

bool intercepts_rdmsr(Cpu &cpu, const Op &op, u32 msr) {
  if (!non_root(cpu) || !msr_exits(cpu, msr, false)) return false;
  exit_for_instruction(cpu, op, ExitReason::Rdmsr);
  return true;
}

bool intercepts_wrmsr(Cpu &cpu, const Op &op, u32 msr) {
  if (!non_root(cpu) || !msr_exits(cpu, msr, true)) return false;
  exit_for_instruction(cpu, op, ExitReason::Wrmsr);
  return true;
}

bool intercepts_io(Cpu &cpu, const Op &op, const IoAccess &io) {
  if (!non_root(cpu) || !port_exits(cpu, io)) return false;
  vm_exit(cpu, {.reason = ExitReason::IoInstruction,
                .qualification = io_qualification(io),
                .length = op.length,
                .information = io.string ? string_io_information(op) : 0,
                .linear = io.string ? io.linear : 0,
                .rf = SavedRf::Clear});
  return true;
}

} // namespace abyme::soft::vmx
