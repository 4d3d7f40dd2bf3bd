// What every level of `abyme nest` runs to measure itself: the cost of CPUID, the instruction that always exits from a
// VT-x guest (SDM 3C §26.1.2). One line on standard output. Without libc: it is part of the abyme binary, and starts at
// once.
#include <stdint.h>

enum { kWrite = 1, kExit = 60, kClockGettime = 228, kMonotonic = 1 };

static long system_call(long number, long a, long b, long c) {
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return result;
}

static uint64_t now_ns(void) {
  struct {
    int64_t seconds, nanoseconds;
  } time = {0, 0};
  system_call(kClockGettime, kMonotonic, (long)&time, 0);
  return (uint64_t)time.seconds * 1000000000u + (uint64_t)time.nanoseconds;
}

static uint64_t time_cpuid(uint64_t count) {
  const uint64_t start = now_ns();
  for (uint64_t i = 0; i < count; i++) {
    uint32_t eax = 0, ebx, ecx = 0, edx;
    __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  }
  return now_ns() - start;
}

static char *put_number(char *end, uint64_t value) {
  do *--end = (char)('0' + value % 10);
  while (value /= 10);
  return end;
}

static char *put_text(char *end, const char *text) {
  const char *last = text;
  while (*last) last++;
  while (last != text) *--end = *--last;
  return end;
}

// The median of an odd number of rounds, each of at least 2 ms.
void measure(void) {
  enum { kRounds = 7, kRoundNs = 2000000 };
  uint64_t count = 8, rounds[kRounds];
  while (count < (1u << 20) && time_cpuid(count) < kRoundNs) count *= 2;
  for (int i = 0; i < kRounds; i++) {
    const uint64_t elapsed = time_cpuid(count);
    int at = i;
    for (; at > 0 && rounds[at - 1] > elapsed; at--) rounds[at] = rounds[at - 1];
    rounds[at] = elapsed;
  }
  char line[64], *end = line + sizeof line, *start = put_text(end, "\n");
  start = put_number(start, rounds[kRounds / 2] * 10 / count);
  start = put_text(start, "@abyme measured cpuid_tenths_ns=");
  system_call(kWrite, 1, (long)start, end - start);
  system_call(kExit, 0, 0, 0);
}

// The ABI's entry point has no caller: the stack pointer is aligned, measure() expects it to be off by a return
// address.
__asm__(".globl _start\n_start: call measure\n");
