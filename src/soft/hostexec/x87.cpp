#include "soft/hostexec/x87.hpp"
#include "soft/hostexec/hostexec.hpp"
#include "soft/hostexec/mxcsr.hpp"
#include "soft/mmu/access.hpp"
#include <cstddef>

namespace abyme::soft::hostexec {
namespace {

using namespace x86;

struct alignas(64) FxsaveArea {
  u8 bytes[512];
};

#define ABYME_ALL_XMM                                                                                                  \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13",  \
      "xmm14", "xmm15"

bool fault(Cpu &cpu, u8 vector) {
  (void)raise(cpu, vector);
  return false;
}

// With CR0.NE clear an exception is reported by FERR#, which no chipset here listens to: as if IGNNE# were asserted,
// the instruction executes with everything masked (SDM 1 §8.7.2). `reserved` remembers the masks until unload_x87().
void ignore_exception(X87Image &x) {
  x.reserved = static_cast<u8>(~x.fcw & kX87Exceptions);
  x.fcw |= kX87Exceptions;
}

bool check_pending(Cpu &cpu) {
  if (!exception_pending(cpu)) return true;
  if (cpu.cr0 & cr0::NE) return fault(cpu, MF);
  ignore_exception(image(cpu));
  return true;
}

} // namespace

// FXRSTOR loads MXCSR and the XMM registers as well: the former with what it holds, the latter with nothing that anyone
// reads.
void load_x87(Cpu &cpu) {
  FxsaveArea area;
  std::memcpy(area.bytes, cpu.x87, 160);
  std::memset(area.bytes + 160, 0, sizeof area.bytes - 160);
  auto &host = *reinterpret_cast<X87Image *>(area.bytes);
  host.reserved = 0;
  host.fop = 0;
  host.fip = host.fdp = 0;
  host.mxcsr = store_mxcsr();
  asm volatile("fxrstor64 %0" : : "m"(area) : ABYME_ALL_XMM, "memory");
  cpu.x87_live = true;
  cpu.gates &= static_cast<u8>(~kGateX87Cold);
}

void set_top(X87Image &x, unsigned top) {
  const unsigned turn = (top - (x.fsw >> 11 & 7)) & 7;
  u8 turned[8][16];
  for (unsigned n = 0; n < 8; ++n) std::memcpy(turned[n], x.st[(n + turn) & 7], 16);
  std::memcpy(x.st, turned, sizeof turned);
  x.fsw = static_cast<u16>((x.fsw & ~(7u << 11)) | top << 11);
}

void update_summary(X87Image &x) {
  const bool summary = x.fsw & ~x.fcw & kX87Exceptions;
  x.fsw = static_cast<u16>((x.fsw & ~(kFswSummary | kFswBusy)) | (summary ? kFswSummary | kFswBusy : 0));
}

bool exception_pending(Cpu &cpu) { return !cpu.x87_live && image(cpu).fsw & kFswSummary; }

void note_pointers(Cpu &cpu, const Op &op, const Plan &plan) {
  X87Image &x = image(cpu);
  x.fop = plan.fop;
  x.fip = rip_of(cpu, &op);
  cpu.x87_cs = cpu.segments[CS].selector;
  if (!plan.size) return;
  x.fdp = effective_address(cpu, op);
  const u8 segment = op.segment == Op::kFlat ? static_cast<u8>(op.flags & kOpStackSegment ? SS : DS) : op.segment;
  cpu.x87_ds = cpu.segments[segment].selector;
}

bool admit_x87(Cpu &cpu, const Plan &plan) {
  if (cpu.cr0 & (cr0::EM | cr0::TS)) return fault(cpu, NM);
  if (plan.waits && !check_pending(cpu)) return false;
  if (plan.stub && !cpu.x87_live) load_x87(cpu);
  return true;
}

bool admit_mmx(Cpu &cpu) {
  if (cpu.cr0 & cr0::EM) return fault(cpu, UD);
  if (cpu.cr0 & cr0::TS) return fault(cpu, NM);
  if (!check_pending(cpu)) return false;
  if (!cpu.x87_live) load_x87(cpu);
  return true;
}

void settle_x87(Cpu &cpu) {
  if (!cpu.x87_live) return;
  u16 fcw;
  asm volatile("fnstcw %0" : "=m"(fcw));
  if ((fcw & kX87Exceptions) == kX87Exceptions && !image(cpu).reserved) return;
  unload_x87(cpu);
}

void unload_x87(Cpu &cpu) {
  if (!cpu.x87_live) return;
  FxsaveArea area;
  asm volatile("fxsave64 %0\n\tfninit" : "=m"(area) : : "memory");
  const auto &host = *reinterpret_cast<const X87Image *>(area.bytes);
  X87Image &x = image(cpu);
  x.fcw = static_cast<u16>(host.fcw & ~x.reserved);
  x.fsw = host.fsw;
  x.tags = host.tags;
  x.reserved = 0;
  update_summary(x);
  std::memcpy(x.st, host.st, sizeof x.st);
  cpu.x87_live = false;
  cpu.gates |= kGateX87Cold;
}

void initialize_x87(Cpu &cpu) {
  cpu.x87_live = false;
  cpu.gates |= kGateX87Cold;
  std::memset(cpu.x87, 0, offsetof(X87Image, st));
  image(cpu).fcw = kFcwReset;
  cpu.x87_cs = cpu.x87_ds = 0;
}

void sync_x87(Cpu &cpu) { unload_x87(cpu); }

} // namespace abyme::soft::hostexec
