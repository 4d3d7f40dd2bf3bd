// Instructions that cause VM exits by themselves: SDM 3C §26.1.2, §26.1.3.
#include "soft/vmx/exit.hpp"
#include "soft/vmx/instruction_information.hpp"

namespace abyme::soft::vmx {
namespace {

using x86::ExitReason;
namespace primary = x86::primary;
namespace secondary = x86::secondary;

enum class Word : u8 { Always, Primary, Secondary };

// Which control makes an instruction exit, and with which reason.
struct Row {
  Instruction what;
  Word word;
  u32 bit;
  ExitReason reason;
};
constexpr Row kRows[] = {
    {Instruction::Cpuid, Word::Always, 0, ExitReason::Cpuid},
    {Instruction::Getsec, Word::Always, 0, ExitReason::Getsec},
    {Instruction::Hlt, Word::Primary, primary::HltExiting, ExitReason::Hlt},
    {Instruction::Invd, Word::Always, 0, ExitReason::Invd},
    {Instruction::Invlpg, Word::Primary, primary::InvlpgExiting, ExitReason::Invlpg},
    {Instruction::Rdpmc, Word::Primary, primary::RdpmcExiting, ExitReason::Rdpmc},
    {Instruction::Rdtsc, Word::Primary, primary::RdtscExiting, ExitReason::Rdtsc},
    {Instruction::Rdtscp, Word::Primary, primary::RdtscExiting, ExitReason::Rdtscp},
    {Instruction::Rsm, Word::Always, 0, ExitReason::Rsm},
    {Instruction::Pause, Word::Primary, primary::PauseExiting, ExitReason::Pause},
    {Instruction::Mwait, Word::Primary, primary::MwaitExiting, ExitReason::Mwait},
    {Instruction::Monitor, Word::Primary, primary::MonitorExiting, ExitReason::Monitor},
    {Instruction::Wbinvd, Word::Secondary, secondary::WbinvdExiting, ExitReason::Wbinvd},
    {Instruction::Xsetbv, Word::Always, 0, ExitReason::Xsetbv},
    {Instruction::Rdrand, Word::Secondary, secondary::RdrandExiting, ExitReason::Rdrand},
    {Instruction::Rdseed, Word::Secondary, secondary::RdseedExiting, ExitReason::Rdseed},
    {Instruction::Invpcid, Word::Primary, primary::InvlpgExiting, ExitReason::Invpcid},
    {Instruction::Xsaves, Word::Secondary, secondary::EnableXsaves, ExitReason::Xsaves},
    {Instruction::Xrstors, Word::Secondary, secondary::EnableXsaves, ExitReason::Xrstors},
    {Instruction::Sgdt, Word::Secondary, secondary::DescriptorTableExiting, ExitReason::GdtrOrIdtr},
    {Instruction::Sidt, Word::Secondary, secondary::DescriptorTableExiting, ExitReason::GdtrOrIdtr},
    {Instruction::Lgdt, Word::Secondary, secondary::DescriptorTableExiting, ExitReason::GdtrOrIdtr},
    {Instruction::Lidt, Word::Secondary, secondary::DescriptorTableExiting, ExitReason::GdtrOrIdtr},
    {Instruction::Sldt, Word::Secondary, secondary::DescriptorTableExiting, ExitReason::LdtrOrTr},
    {Instruction::Str, Word::Secondary, secondary::DescriptorTableExiting, ExitReason::LdtrOrTr},
    {Instruction::Lldt, Word::Secondary, secondary::DescriptorTableExiting, ExitReason::LdtrOrTr},
    {Instruction::Ltr, Word::Secondary, secondary::DescriptorTableExiting, ExitReason::LdtrOrTr},
};
static_assert([] {
  for (size_t i = 0; i < std::size(kRows); i++)
    if (kRows[i].what != static_cast<Instruction>(i)) return false;
  return std::size(kRows) == static_cast<size_t>(Instruction::Ltr) + 1;
}());

// SDM 3C §25.6.13: only in ring 0; a PAUSE within the gap of the last one continues its loop.
[[nodiscard]] bool pause_loop_exits(Cpu &cpu) {
  Vmx &vmx = *cpu.vmx;
  if (!secondary_on(cpu, secondary::PauseLoopExiting) || cpu.cpl != 0) return false;
  const u64 now = tsc(cpu);
  if (vmx.pause_last == 0 || now - vmx.pause_last > vmx.vmcs[Field::PleGap]) vmx.pause_first = now;
  vmx.pause_last = now;
  return now - vmx.pause_first > vmx.vmcs[Field::PleWindow];
}

// XSAVES and XRSTORS exit for the supervisor components that the bitmap names (SDM 3C §25.6.20).
[[nodiscard]] bool supervisor_component_exits(const Cpu &cpu) {
  const u64 requested = (cpu.gpr[x86::RDX] << 32) | static_cast<u32>(cpu.gpr[x86::RAX]);
  return requested & cpu.msr.xss & cpu.vmx->vmcs[Field::XssExitingBitmap];
}

[[nodiscard]] bool exits(Cpu &cpu, const Row &row) {
  const bool controlled = row.word == Word::Always || (row.word == Word::Primary && primary_on(cpu, row.bit)) ||
                          (row.word == Word::Secondary && secondary_on(cpu, row.bit));
  switch (row.what) {
  case Instruction::Pause: return controlled || pause_loop_exits(cpu);
  case Instruction::Xsaves:
  case Instruction::Xrstors: return controlled && supervisor_component_exits(cpu);
  default: return controlled;
  }
}

[[nodiscard]] u32 identity(Instruction what, Instruction first) {
  return static_cast<u32>(what) - static_cast<u32>(first);
}

[[nodiscard]] u32 information(Instruction what, const Op &op) {
  switch (what) {
    using enum Instruction;
  case Rdrand:
  case Rdseed: return random_information(op, op.rm);
  case Invpcid: return with_second_register(op);
  case Xsaves:
  case Xrstors: return memory_information(op);
  case Sgdt:
  case Sidt:
  case Lgdt:
  case Lidt: return table_information(op, identity(what, Sgdt));
  case Sldt:
  case Str:
  case Lldt:
  case Ltr: return selector_information(op, identity(what, Sldt));
  default: return 0;
  }
}

[[nodiscard]] u64 qualification(const Cpu &cpu, const Op &op, Instruction what, u64 linear) {
  if (what == Instruction::Invlpg) return linear;
  return what >= Instruction::Invpcid ? displacement(cpu, op) : 0;
}

} // namespace

bool intercepts(Cpu &cpu, const Op &op, Instruction what, u64 linear) {
  if (!non_root(cpu)) return false;
  const Row &row = kRows[static_cast<size_t>(what)];
  if (!exits(cpu, row)) return false;
  exit_for_instruction(cpu, op, row.reason, qualification(cpu, op, what, linear), information(what, op));
  return true;
}

bool enabled_in_guest(const Cpu &cpu, Instruction what) {
  if (!non_root(cpu)) return true;
  const u32 controls = cpu.vmx->controls.secondary;
  switch (what) {
  case Instruction::Rdtscp: return controls & secondary::EnableRdtscp;
  case Instruction::Invpcid: return controls & secondary::EnableInvpcid;
  case Instruction::Xsaves:
  case Instruction::Xrstors: return controls & secondary::EnableXsaves;
  default: return true;
  }
}

bool intercepts_task_switch(Cpu &cpu, u16 selector, unsigned source, const Op *op) {
  if (!non_root(cpu)) return false;
  vm_exit(cpu, {.reason = ExitReason::TaskSwitch,
                .qualification = selector | static_cast<u64>(source & 3) << 30,
                .length = op ? op->length : 0u});
  return true;
}

// SDM 3C §26.3: RDTSC, RDTSCP and RDMSR of IA32_TIME_STAMP_COUNTER.
u64 guest_tsc(const Cpu &cpu, u64 tsc) {
  if (!primary_on(cpu, primary::UseTscOffsetting)) return tsc;
  const Vmcs &vmcs = cpu.vmx->vmcs;
  if (secondary_on(cpu, secondary::UseTscScaling))
    tsc = static_cast<u64>(static_cast<u128>(tsc) * vmcs[Field::TscMultiplier] >> 48);
  return tsc + vmcs[Field::TscOffset];
}

} // namespace abyme::soft::vmx
