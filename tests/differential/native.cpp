#include "native.hpp"
#include <asm/prctl.h>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

namespace abyme::differential {

struct Native::Shared {
  Case cases[kBatch];
  Outcome outcomes[kBatch];
  u64 fs_base;
};

namespace {

constexpr u64 kTrapFlag = 0x100;
// Flags that a signal frame restores (arithmetic, TF, DF, AC) and a case may set.
constexpr u64 kSettable = 0xCD5 | 0x40000;

// A signal frame's FPU state: an FXSAVE64 image, the XSAVE header at 512, the upper halves of YMM at 576.
constexpr unsigned kMxcsr = 24, kSt = 32, kXmm = 160, kHeader = 512, kYmm = 576;

// Of the child only. A signal handler has no other way to its data than a global.
struct Child {
  Case *cases;
  Outcome *outcomes;
  u8 *code; // the writable view of kCode
  int commands, answers;
  unsigned count, current;
  bool running;
};
Child g_child;

template <class T> T get(const u8 *p) {
  T v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <class T> void put(u8 *p, T v) { __builtin_memcpy(p, &v, sizeof v); }

constexpr int kGregs[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                            REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

// Linux's selectors (arch/x86/include/asm/segment.h).
constexpr u16 kCode32 = 0x23, kCode64 = 0x33, kData32 = 0x2B;

void load(const State &s, bool compatible, ucontext_t &context) {
  auto *g = context.uc_mcontext.gregs;
  g[REG_CSGSFS] = (g[REG_CSGSFS] & ~0xFFFFll) | (compatible ? kCode32 : kCode64);
  for (unsigned n = 0; n < 16; ++n) g[kGregs[n]] = static_cast<greg_t>(s.gpr[n]);
  g[REG_RIP] = static_cast<greg_t>(s.rip);
  g[REG_EFL] = static_cast<greg_t>((s.rflags & kSettable) | kTrapFlag | 0x202);
  u8 *fpu = reinterpret_cast<u8 *>(context.uc_mcontext.fpregs);
  put<u16>(fpu, s.fcw);
  put<u16>(fpu + 2, s.fsw);
  put<u16>(fpu + 4, s.tags);
  put<u16>(fpu + 6, s.fop);
  put<u64>(fpu + 8, s.fip);
  put<u64>(fpu + 16, s.fdp);
  put<u32>(fpu + kMxcsr, s.mxcsr);
  __builtin_memcpy(fpu + kSt, s.st, sizeof s.st);
  for (unsigned n = 0; n < 16; ++n) {
    __builtin_memcpy(fpu + kXmm + n * 16, s.ymm[n], 16);
    __builtin_memcpy(fpu + kYmm + n * 16, s.ymm[n] + 16, 16);
  }
  put<u64>(fpu + kHeader, 7);
}

void store(const ucontext_t &context, State &s) {
  const auto *g = context.uc_mcontext.gregs;
  for (unsigned n = 0; n < 16; ++n) s.gpr[n] = static_cast<u64>(g[kGregs[n]]);
  s.rip = static_cast<u64>(g[REG_RIP]);
  s.rflags = static_cast<u64>(g[REG_EFL]);
  const u8 *fpu = reinterpret_cast<const u8 *>(context.uc_mcontext.fpregs);
  const u64 present = get<u64>(fpu + kHeader);
  s.fcw = get<u16>(fpu);
  s.fsw = get<u16>(fpu + 2);
  s.tags = get<u8>(fpu + 4);
  s.fop = get<u16>(fpu + 6);
  s.fip = get<u64>(fpu + 8);
  s.fdp = get<u64>(fpu + 16);
  s.mxcsr = get<u32>(fpu + kMxcsr);
  __builtin_memcpy(s.st, fpu + kSt, sizeof s.st);
  for (unsigned n = 0; n < 16; ++n) {
    __builtin_memset(s.ymm[n], 0, 32);
    if (present & 2) __builtin_memcpy(s.ymm[n], fpu + kXmm + n * 16, 16);
    if (present & 4) __builtin_memcpy(s.ymm[n] + 16, fpu + kYmm + n * 16, 16);
  }
  if (!(present & 1)) {
    s.fcw = 0x37F;
    s.fsw = s.fop = 0;
    s.tags = 0;
    s.fip = s.fdp = 0;
    __builtin_memset(s.st, 0, sizeof s.st);
  }
}

void record(const ucontext_t &context) {
  const auto *g = context.uc_mcontext.gregs;
  Outcome &out = g_child.outcomes[g_child.current];
  store(context, out.state);
  const auto vector = static_cast<u8>(g[REG_TRAPNO]);
  out.stop = {vector != 1 && vector != 3, vector, static_cast<u32>(g[REG_ERR]), static_cast<u64>(g[REG_CR2])};
  __builtin_memcpy(out.data, reinterpret_cast<const void *>(kData), kDataSize);
}

// Waits for the next batch; its size. The parent closes the pipe to end the child.
void next_batch() {
  u8 byte = 1;
  if (g_child.count && write(g_child.answers, &byte, 1) != 1) _exit(0);
  u8 count = 0;
  if (read(g_child.commands, &count, 1) != 1 || !count) _exit(0);
  g_child.count = count;
  g_child.current = 0;
}

void on_signal(int, siginfo_t *, void *argument) {
  auto &context = *static_cast<ucontext_t *>(argument);
  const auto *g = context.uc_mcontext.gregs;
  if (g_child.running) {
    const Case &done = g_child.cases[g_child.current];
    const bool step = g[REG_TRAPNO] == 1;
    if (step && done.repeats && static_cast<u64>(g[REG_RIP]) == done.before.rip) return; // another iteration
    record(context);
    ++g_child.current;
  }
  if (g_child.current == g_child.count) next_batch();
  g_child.running = true;
  const Case &c = g_child.cases[g_child.current];
  __builtin_memset(g_child.code, 0xCC, kCodeSize);
  __builtin_memcpy(g_child.code + c.code_offset, c.code, c.length);
  __builtin_memcpy(reinterpret_cast<void *>(kData), c.data, kDataSize);
  load(c.before, c.compatible, context);
}

[[noreturn]] void die(const char *what) {
  std::perror(what);
  _exit(3);
}

void map_areas() {
  const int fd = memfd_create("code", 0);
  if (fd < 0 || ftruncate(fd, kCodeSize) != 0) die("memfd");
  void *at = reinterpret_cast<void *>(kCode);
  if (mmap(at, kCodeSize, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE, fd, 0) != at)
    die("code");
  void *writable = mmap(nullptr, kCodeSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (writable == MAP_FAILED) die("code");
  g_child.code = static_cast<u8 *>(writable);
  at = reinterpret_cast<void *>(kData);
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE;
  if (mmap(at, kDataSize, PROT_READ | PROT_WRITE, flags, -1, 0) != at) die("data");
}

void handle_signals() {
  static u8 stack[256 * 1024];
  stack_t alternate{};
  alternate.ss_sp = stack;
  alternate.ss_size = sizeof stack;
  sigaltstack(&alternate, nullptr);
  struct sigaction action {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  for (const int signal : {SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE}) sigaction(signal, &action, nullptr);
}

[[noreturn]] void child_main() {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  map_areas();
  syscall(SYS_arch_prctl, ARCH_SET_GS, Native::kGsBase);
  handle_signals();
  // 64-bit code does not look at them, and signals leave them alone.
  asm volatile("mov %0, %%ds; mov %0, %%es" : : "r"(static_cast<u32>(kData32)));
  asm volatile("int3");
  _exit(0);
}

} // namespace

Native::Native() {
  void *p = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) die("mmap");
  shared_ = static_cast<Shared *>(p);
  start();
}

Native::~Native() {
  stop();
  munmap(shared_, sizeof(Shared));
}

Case &Native::in(unsigned n) { return shared_->cases[n]; }
const Outcome &Native::out(unsigned n) const { return shared_->outcomes[n]; }
u64 Native::fs_base() const { return shared_->fs_base; }

void Native::start() {
  if (pipe(to_child_) != 0 || pipe(from_child_) != 0) die("pipe");
  syscall(SYS_arch_prctl, ARCH_GET_FS, &shared_->fs_base); // fork() keeps it
  child_ = fork();
  if (child_ < 0) die("fork");
  if (child_ == 0) {
    close(to_child_[1]);
    close(from_child_[0]);
    g_child = {shared_->cases, shared_->outcomes, nullptr, to_child_[0], from_child_[1], 0, 0, false};
    child_main();
  }
  close(to_child_[0]);
  close(from_child_[1]);
}

void Native::stop() {
  close(to_child_[1]);
  close(from_child_[0]);
  kill(child_, SIGKILL);
  waitpid(child_, nullptr, 0);
}

bool Native::run(unsigned count) {
  const u8 command = static_cast<u8>(count);
  u8 answer = 0;
  if (write(to_child_[1], &command, 1) == 1 && read(from_child_[0], &answer, 1) == 1) return true;
  stop();
  start();
  return false;
}

} // namespace abyme::differential
