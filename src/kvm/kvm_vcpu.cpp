#include "kvm/kvm_vcpu.hpp"
#include "base/log.hpp"
#include "kvm/cpuid.hpp"
#include "kvm/ioctl.hpp"
#include "kvm/state.hpp"
#include "x86/msr.hpp"
#include <algorithm>
#include <csignal>
#include <cstring>
#include <mutex>
#include <sys/mman.h>
#include <sys/syscall.h>

namespace abyme::kvm {
namespace {

int kick_signal() { return SIGRTMIN; }

// The kick's only use is that it ends KVM_RUN, so its handler does nothing.
void install_kick_handler() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_handler = [](int) {};
    ::sigaction(kick_signal(), &action, nullptr);
  });
}

// While it lives, this thread is the one that a kick is sent to.
class KickTarget {
public:
  explicit KickTarget(std::atomic<pid_t> &thread) : thread_(thread) {
    sigset_t kick;
    sigemptyset(&kick);
    sigaddset(&kick, kick_signal());
    ::pthread_sigmask(SIG_UNBLOCK, &kick, &before_);
    thread_ = static_cast<pid_t>(::syscall(SYS_gettid));
  }
  ~KickTarget() {
    thread_ = 0;
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  KickTarget(const KickTarget &) = delete;
  KickTarget &operator=(const KickTarget &) = delete;

private:
  std::atomic<pid_t> &thread_;
  sigset_t before_{};
};

constexpr bool is_register_size(u32 size) { return size == 1 || size == 2 || size == 4 || size == 8; }

const char *exit_name(u32 reason) {
  switch (reason) {
  case KVM_EXIT_UNKNOWN: return "KVM_EXIT_UNKNOWN";
  case KVM_EXIT_EXCEPTION: return "KVM_EXIT_EXCEPTION";
  case KVM_EXIT_HYPERCALL: return "KVM_EXIT_HYPERCALL";
  case KVM_EXIT_DEBUG: return "KVM_EXIT_DEBUG";
  case KVM_EXIT_HLT: return "KVM_EXIT_HLT";
  case KVM_EXIT_SET_TPR: return "KVM_EXIT_SET_TPR";
  case KVM_EXIT_TPR_ACCESS: return "KVM_EXIT_TPR_ACCESS";
  case KVM_EXIT_NMI: return "KVM_EXIT_NMI";
  case KVM_EXIT_SYSTEM_EVENT: return "KVM_EXIT_SYSTEM_EVENT";
  default: return "an exit that abyme did not ask for";
  }
}

const char *suberror_name(u32 suberror) {
  switch (suberror) {
  case KVM_INTERNAL_ERROR_EMULATION: return "it cannot emulate an instruction";
  case KVM_INTERNAL_ERROR_SIMUL_EX: return "an exception while it delivered another";
  case KVM_INTERNAL_ERROR_DELIVERY_EV: return "an exit while it delivered an event";
  case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON: return "the CPU exited for a reason that it does not know";
  default: return "an error that it does not explain";
  }
}

// What firmware leaves behind: memory is write-back where the page tables do not say otherwise. Guests take disabled
// MTRRs for uncached memory, or give up the PAT over them.
constexpr u64 kMtrrEnabledWriteBack = 1u << 11 | 6;

} // namespace

Result<std::unique_ptr<KvmVcpu>> KvmVcpu::create(const System &system, const Vm &vm, const EngineConfig &config,
                                                 u32 index) {
  install_kick_handler();
  std::unique_ptr<KvmVcpu> vcpu(new KvmVcpu(config, index));
  vcpu->fd_ = Fd(control(vm.fd(), KVM_CREATE_VCPU, index));
  if (!vcpu->fd_) return fail_errno(fmt::format("KVM cannot make vCPU {} of {}", index, config.cpus));
  if (auto done = vcpu->map_run(system); !done) return std::unexpected(done.error());
  if (auto done = vcpu->set_cpuid(system); !done) return std::unexpected(done.error());
  vcpu->set_msrs(system);
  if (index == 0) vcpu->set_state(x86::reset_state());
  return vcpu;
}

KvmVcpu::~KvmVcpu() {
  if (run_ != nullptr) ::munmap(run_, run_size_);
}

Result<void> KvmVcpu::map_run(const System &system) {
  const int size = control(system.fd(), KVM_GET_VCPU_MMAP_SIZE, 0);
  if (size < static_cast<int>(sizeof(kvm_run))) return fail_errno("KVM_GET_VCPU_MMAP_SIZE");
  void *at = ::mmap(nullptr, static_cast<size_t>(size), PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
  if (at == MAP_FAILED) return fail_errno("mapping a vCPU of KVM");
  run_ = static_cast<kvm_run *>(at);
  run_size_ = static_cast<size_t>(size);
  return {};
}

Result<void> KvmVcpu::set_cpuid(const System &system) {
  const auto entries = cpuid_entries(config_.profile, system, index_);
  Table<PaddedCount, kvm_cpuid_entry2> table(entries.size());
  std::ranges::copy(entries, table.entries().begin());
  if (control(fd_.get(), kSetCpuid2, table.head()) < 0)
    return fail_errno(fmt::format("KVM refuses CPU model {}", config_.profile.model));
  return {};
}

void KvmVcpu::set_msrs(const System &system) {
  namespace msr = x86::msr;
  const auto &profile = config_.profile;
  if (profile.has(x86::Feature::mtrr)) set_msr(msr::IA32_MTRR_DEF_TYPE, kMtrrEnabledWriteBack);
  // KVM's reset value has it clear, and Linux then drops ERMS but keeps FSRM, a pair that its memmove gets wrong.
  set_msr(msr::IA32_MISC_ENABLE, msr::misc_enable::FAST_STRING);
  if (system.has_msr(msr::IA32_BIOS_SIGN_ID)) set_msr(msr::IA32_BIOS_SIGN_ID, msr::kBiosSignId);
  // The host's flaws are the guest's, since its CPU runs the guest.
  if (profile.has(x86::Feature::arch_capabilities))
    set_msr(msr::IA32_ARCH_CAPABILITIES, system.feature_msr(msr::IA32_ARCH_CAPABILITIES));
}

void KvmVcpu::set_msr(u32 index, u64 value) {
  kvm_msr_entry entry{.index = index, .reserved = 0, .data = value};
  if (!transfer_msr(fd_.get(), kSetMsrs, entry)) log::debug("KVM refuses MSR {:#x} = {:#x}", index, value);
}

void KvmVcpu::set_state(const x86::CpuState &state) {
  kvm_regs regs{};
  kvm_sregs sregs{};
  if (control(fd_.get(), KVM_GET_SREGS, &sregs) < 0) log::error("KVM_GET_SREGS: {}", std::strerror(errno));
  to_kvm(state, regs, sregs);
  if (control(fd_.get(), KVM_SET_SREGS, &sregs) < 0) log::error("KVM_SET_SREGS: {}", std::strerror(errno));
  if (control(fd_.get(), KVM_SET_REGS, &regs) < 0) log::error("KVM_SET_REGS: {}", std::strerror(errno));
}

x86::CpuState KvmVcpu::state() const {
  kvm_regs regs{};
  kvm_sregs sregs{};
  if (control(fd_.get(), KVM_GET_REGS, &regs) < 0) log::error("KVM_GET_REGS: {}", std::strerror(errno));
  if (control(fd_.get(), KVM_GET_SREGS, &sregs) < 0) log::error("KVM_GET_SREGS: {}", std::strerror(errno));
  return from_kvm(regs, sregs);
}

void KvmVcpu::request_stop() {
  stop_ = true;
  kick();
}

// Whoever kicks has changed, before, what run() looks at after it has cleared immediate_exit; so either run() sees the
// change or KVM_RUN the flag, and the signal is only needed for a KVM_RUN under way.
void KvmVcpu::kick() {
  std::atomic_ref(run_->immediate_exit) = 1;
  if (const pid_t thread = thread_) ::syscall(SYS_tgkill, ::getpid(), thread, kick_signal());
}

VcpuExit KvmVcpu::run() {
  const KickTarget target(thread_);
  for (;;)
    if (auto end = step()) return std::move(*end);
}

std::optional<VcpuExit> KvmVcpu::step() {
  std::atomic_ref(run_->immediate_exit) = 0;
  if (stop_.exchange(false)) {
    finish_io();
    return Stopped{};
  }
  if (index_ == 0) offer_external_interrupt();
  io_unfinished_ = false;
  if (::ioctl(fd_.get(), KVM_RUN, 0) == 0) return handle_exit();
  // EAGAIN: a vCPU that waits for SIPI was woken.
  if (errno == EINTR || errno == EAGAIN) return std::nullopt;
  return impossible(fmt::format("KVM_RUN: {}", std::strerror(errno)));
}

std::optional<VcpuExit> KvmVcpu::handle_exit() {
  switch (run_->exit_reason) {
  case KVM_EXIT_IO: handle_port(); return std::nullopt;
  case KVM_EXIT_MMIO: handle_mmio(); return std::nullopt;
  case KVM_EXIT_IOAPIC_EOI: config_.ioapic.end_of_interrupt(run_->eoi.vector); return std::nullopt;
  case KVM_EXIT_IRQ_WINDOW_OPEN:
  case KVM_EXIT_INTR: return std::nullopt;
  case KVM_EXIT_SHUTDOWN: return TripleFault{};
  case KVM_EXIT_FAIL_ENTRY:
    return impossible(fmt::format("the CPU refuses to enter the guest, reason {:#x}",
                                  run_->fail_entry.hardware_entry_failure_reason));
  case KVM_EXIT_INTERNAL_ERROR:
    return impossible(
        fmt::format("KVM gave up: {} (suberror {})", suberror_name(run_->internal.suberror), run_->internal.suberror));
  default: return impossible(fmt::format("{} ({})", exit_name(run_->exit_reason), run_->exit_reason));
  }
}

void KvmVcpu::handle_port() {
  const auto io = run_->io;
  u8 *data = reinterpret_cast<u8 *>(run_) + io.data_offset;
  for (u32 i = 0; i < io.count; ++i, data += io.size) {
    u32 value = 0;
    if (io.direction == KVM_EXIT_IO_OUT) {
      std::memcpy(&value, data, io.size);
      config_.io.port_write(io.port, io.size, value);
    } else {
      value = config_.io.port_read(io.port, io.size);
      std::memcpy(data, &value, io.size);
    }
  }
  io_unfinished_ = true;
}

void KvmVcpu::handle_mmio() {
  auto &mmio = run_->mmio;
  // An access that crosses a page comes in pieces of any length: those no device sees whole, so it gets bytes.
  const u32 step = is_register_size(mmio.len) ? mmio.len : 1;
  for (u32 i = 0; i < mmio.len; i += step) {
    const Gpa at(mmio.phys_addr + i);
    u64 value = 0;
    if (mmio.is_write) {
      std::memcpy(&value, mmio.data + i, step);
      config_.io.mmio_write(at, step, value);
    } else {
      value = config_.io.mmio_read(at, step);
      std::memcpy(mmio.data + i, &value, step);
    }
  }
  io_unfinished_ = true;
}

void KvmVcpu::offer_external_interrupt() {
  bool pending = config_.pic.pending();
  if (pending && run_->ready_for_interrupt_injection) {
    kvm_interrupt interrupt{.irq = config_.pic.acknowledge()};
    if (control(fd_.get(), KVM_INTERRUPT, &interrupt) < 0)
      log::warn("KVM refuses an external interrupt: {}", std::strerror(errno));
    run_->ready_for_interrupt_injection = 0;
    pending = config_.pic.pending();
  }
  run_->request_interrupt_window = pending;
}

// The guest's registers are those after an access only when the kernel has completed it. A string instruction asks for
// more accesses while it does; we give it a few, and no more, since the guest chooses how many there are.
void KvmVcpu::finish_io() {
  constexpr int kRounds = 16;
  for (int i = 0; i < kRounds && io_unfinished_; ++i) {
    std::atomic_ref(run_->immediate_exit) = 1;
    io_unfinished_ = false;
    if (::ioctl(fd_.get(), KVM_RUN, 0) != 0) return;
    if (run_->exit_reason == KVM_EXIT_IO) handle_port();
    if (run_->exit_reason == KVM_EXIT_MMIO) handle_mmio();
  }
}

InternalError KvmVcpu::impossible(std::string what) const {
  const auto s = state();
  return {fmt::format("vCPU {}: {}\n{}{}", index_, what, dump(s), code_bytes(s))};
}

std::string KvmVcpu::code_bytes(const x86::CpuState &state) const {
  constexpr u64 kMost = 15; // the longest instruction
  kvm_translation translation{};
  translation.linear_address = state.segments[x86::CS].base + state.rip;
  if (control(fd_.get(), KVM_TRANSLATE, &translation) < 0 || !translation.valid) return "code: not mapped\n";
  const u64 size = std::min<u64>(kMost, kPageSize - translation.physical_address % kPageSize);
  std::array<u8, kMost> bytes{};
  if (!config_.memory.read(Gpa(translation.physical_address), bytes.data(), size)) return "code: not in memory\n";
  return fmt::format("code: {:02x}\n", fmt::join(std::span(bytes).first(size), " "));
}

} // namespace abyme::kvm
