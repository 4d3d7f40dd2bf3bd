#include "kvm/probe.hpp"
#include "kvm/kvm_engine.hpp"
#include "kvm/system.hpp"
#include "x86/cpu_models.hpp"
#include <atomic>
#include <cstring>
#include <optional>
#include <unistd.h>

namespace abyme::kvm {
namespace {

using namespace x86;

constexpr u64 kMemorySize = 2 << 20;
constexpr u64 kPml4 = 0x1000, kPdpt = 0x2000, kDirectory = 0x3000, kCode = 0x10000;
constexpr u16 kReportPort = 0xF4;
constexpr u64 kIterations = 1'500'000, kInstructionsPerIteration = 2;
constexpr Nanoseconds kLongest = 200'000'000;

// Reports, by writes to the port, that 64-bit mode is reached, that the loop is over, and that an SSE2 instruction ran.
constexpr u8 kGuest[] = {
    0x48,
    0xB8,
    0,
    0,
    0,
    0,
    1,
    0,
    0,
    0, // mov rax, 1 << 32
    0x48,
    0xC1,
    0xE8,
    0x20, // shr rax, 32: 1 only with 64-bit registers
    0xE6,
    kReportPort, // out kReportPort, al
    0xB9,
    kIterations & 0xFF,
    kIterations >> 8 & 0xFF,
    kIterations >> 16 & 0xFF,
    kIterations >> 24, // mov ecx, kIterations
    0xFF,
    0xC9, // dec ecx
    0x75,
    0xFC, // jnz to the dec
    0xB0,
    0x02, // mov al, 2
    0xE6,
    kReportPort, // out kReportPort, al
    0x66,
    0x0F,
    0xD4,
    0xC0, // paddq xmm0, xmm0
    0xB0,
    0x03, // mov al, 3
    0xE6,
    kReportPort, // out kReportPort, al
    0xF4,        // hlt
};
enum Report : u8 { kLongMode = 1, kLoopDone = 2, kVectorDone = 3 };

CpuState start_state() {
  CpuState s = reset_state();
  s.segments.fill({.base = 0, .limit = 0xFFFF'FFFF, .rights = 0xC093, .selector = 0x10});
  s.segments[CS] = {.base = 0, .limit = 0xFFFF'FFFF, .rights = 0xA09B, .selector = 8};
  s.cr0 = cr0::PE | cr0::ET | cr0::NE | cr0::PG;
  s.cr3 = kPml4;
  s.cr4 = cr4::PAE | cr4::OSFXSR | cr4::OSXMMEXCPT;
  s.efer = efer::LME | efer::LMA;
  s.rip = kCode;
  return s;
}

bool write_guest(GuestMemory &memory) {
  constexpr u64 kPresentWritable = 3, kLargePage = 0x80;
  return memory.store<u64>(Gpa(kPml4), kPdpt | kPresentWritable) &&
         memory.store<u64>(Gpa(kPdpt), kDirectory | kPresentWritable) &&
         memory.store<u64>(Gpa(kDirectory), kPresentWritable | kLargePage) &&
         memory.write(Gpa(kCode), kGuest, sizeof kGuest);
}

// The whole machine of the probe's guest: a port that notes when what was reported.
class Reports final : public IoHandler, public ExternalInterrupts, public EoiListener {
public:
  explicit Reports(const Clock &clock) : clock_(clock) {}
  Engine *engine = nullptr;
  std::optional<Nanoseconds> long_mode, loop_done, vector_done;

  u32 port_read(u16, unsigned) override { return ~0u; }
  void port_write(u16 port, unsigned, u32 value) override {
    if (port != kReportPort) return;
    const auto now = clock_.now();
    if (value == kLongMode) long_mode = now;
    if (value == kLoopDone) loop_done = now;
    if (value != kVectorDone) return;
    vector_done = now;
    engine->stop();
  }
  u64 mmio_read(Gpa, unsigned) override { return ~0ull; }
  void mmio_write(Gpa, unsigned, u64) override {}
  bool pending() override { return false; }
  u8 acknowledge() override { return 0; }
  void end_of_interrupt(u8) override {}

private:
  const Clock &clock_;
};

std::string loaded_module() {
  for (const char *name : {"kvm_intel", "kvm_amd", "kvm_pvm"})
    if (::access(fmt::format("/sys/module/{}", name).c_str(), F_OK) == 0) return name;
  return {};
}

std::string host_vendor() {
  const auto l = host_cpuid(0, 0);
  std::string text(12, ' ');
  const u32 words[] = {l.ebx, l.edx, l.ecx};
  std::memcpy(text.data(), words, sizeof words);
  return text;
}

// The loop's speed: all of it where it ended, else as far as it came.
double speed(const Reports &reports, u64 left, Nanoseconds stopped) {
  if (!reports.long_mode) return 0;
  const u64 done = reports.loop_done ? kIterations : kIterations - left;
  const Nanoseconds elapsed = reports.loop_done.value_or(stopped) - *reports.long_mode;
  return elapsed == 0 ? 0 : static_cast<double>(done * kInstructionsPerIteration) * 1e9 / static_cast<double>(elapsed);
}

Result<void> run_guest(const HostFeatures &features, ProbeResult &result) {
  const auto profile = make_profile("max", features, 1);
  if (!profile) return std::unexpected(profile.error());
  const auto memory = GuestMemory::create(kMemorySize);
  if (!memory) return std::unexpected(memory.error());
  if (!write_guest(**memory)) return fail("the probe's guest does not fit its memory");
  const HostClock clock;
  const auto timers = make_host_timers(clock);
  Reports reports(clock);
  auto engine = make_kvm_engine({.cpus = 1,
                                 .memory = **memory,
                                 .profile = *profile,
                                 .io = reports,
                                 .pic = reports,
                                 .ioapic = reports,
                                 .timers = *timers});
  if (!engine) return std::unexpected(engine.error());
  reports.engine = engine->get();

  auto &vcpu = (*engine)->vcpu(0);
  vcpu.set_state(start_state());
  const auto alarm = timers->create([&engine] { (*engine)->stop(); });
  alarm->set(clock.now() + kLongest);
  const auto exit = vcpu.run();
  const auto stopped = clock.now();
  alarm->cancel();

  result.long_mode_reached = reports.long_mode.has_value();
  result.runs_vector_code = reports.vector_done.has_value();
  result.instructions_per_second = speed(reports, vcpu.state().gpr[RCX], stopped);
  if (const auto *error = std::get_if<InternalError>(&exit))
    return fail("{}", error->message.substr(0, error->message.find('\n')));
  if (std::holds_alternative<TripleFault>(exit)) return fail("the vCPU shut down where 64-bit code should run");
  if (!result.long_mode_reached) return fail("the vCPU did not reach 64-bit code within {} ms", kLongest / 1'000'000);
  if (result.instructions_per_second < ProbeResult::kNativeSpeed)
    return fail("too slow: the vCPU executes {:.1f} million instructions a second, since this host's KVM emulates them "
                "one by one",
                result.instructions_per_second / 1e6);
  return {};
}

// All that can be said without running a vCPU.
Result<HostFeatures> examine(ProbeResult &result) {
  result.vendor = host_vendor();
  result.module = loaded_module();
  auto features = host_features();
  if (!features) {
    result.error = features.error().message;
    return features;
  }
  result.openable = true;
  result.nested_vmx = contains(features->features, Feature::vmx);
  return features;
}

} // namespace

ProbeResult probe(bool needs_vmx) {
  ProbeResult result;
  const auto features = examine(result);
  if (!features || (needs_vmx && !result.nested_vmx)) return result;
  if (const auto ran = run_guest(*features, result); !ran) result.error = ran.error().message;
  return result;
}

} // namespace abyme::kvm
