// nestbench [SCALE [FIGURE]]: what one level of virtualization costs, measured from inside it.
// Prints one line a figure: name, nanoseconds per operation (wall clock of the level it runs on). With FIGURE only that
// one; the figure "idle" is measured from outside: it sleeps SCALE seconds.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}
static volatile uint64_t sink;

static uint64_t integer(uint64_t n) {
  uint64_t x = 88172645463325252ull, s = 0;
  for (uint64_t i = 0; i < n; i++) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    s += (x & 1) ? x : i;
  }
  return s;
}
static uint64_t branchy(uint64_t n) {
  uint64_t c = 0;
  for (uint64_t i = 1; i <= n; i++) {
    uint64_t v = i * 2654435761u & 0xffff;
    while (v != 1 && v) {
      v = (v & 1) ? v * 3 + 1 : v >> 1;
      c++;
    }
  }
  return c;
}
static uint64_t chase(uint32_t *p, uint64_t n) {
  uint32_t i = 0;
  while (n--) i = p[i];
  return i;
}
static uint64_t floating(uint64_t n) {
  double a = 1.0, b = 0.5;
  for (uint64_t i = 0; i < n; i++) {
    a = a * 1.0000001 + b;
    b = b / 1.0000002 + 1e-9;
  }
  return (uint64_t)(a + b);
}
static uint64_t callret_(uint64_t n) __attribute__((noinline));
static uint64_t callret_(uint64_t n) {
  __asm__ volatile("");
  return n < 2 ? n : callret_(n - 1) + callret_(n - 2);
}
static uint64_t cpuid(uint64_t n) {
  uint64_t s = 0;
  while (n--) {
    uint32_t a = 0, b, c = 0, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    s += b;
  }
  return s;
}

static const char *only;
static int wanted(const char *name) { return !only || !strcmp(only, name); }
static void report(const char *name, double t, double ops) {
  printf("nestbench %-10s %12.2f ns/op\n", name, t / ops * 1e9);
  fflush(stdout);
}
#define RUN(name, ops, expr)                                                                                           \
  if (wanted(name)) {                                                                                                  \
    double t0 = now();                                                                                                 \
    sink = (expr);                                                                                                     \
    report(name, now() - t0, (double)(ops));                                                                           \
  }

int main(int argc, char **argv) {
  double k = argc > 1 ? atof(argv[1]) : 1.0;
  uint64_t n;
  if (argc > 2) only = argv[2];
  if (only && wanted("idle")) usleep(k * 1e6);
  n = 20e6 * k;
  RUN("integer", n, integer(n));
  n = 20e3 * k;
  RUN("branchy", n * 108, branchy(n));
  RUN("callret", 1664079, callret_(29));
  n = 5e6 * k;
  RUN("fp", n, floating(n));
  if (wanted("chase16M")) {
    uint32_t N = 4u << 20;
    uint32_t *p = malloc(N * 4ul);
    for (uint32_t i = 0; i < N; i++) p[i] = i;
    for (uint32_t i = N - 1; i; i--) {
      uint32_t j = (uint64_t)i * 2654435761u % i, t = p[i];
      p[i] = p[j];
      p[j] = t;
    }
    n = 2e6 * k;
    RUN("chase16M", n, chase(p, n));
    free(p);
  }
  if (wanted("memcpy4K")) {
    char *a = malloc(8 << 20), *b = malloc(8 << 20);
    memset(a, 1, 8 << 20);
    memset(b, 2, 8 << 20);
    double t0 = now();
    for (int i = 0; i < 20 * k; i++) {
      memcpy(a, b, 8 << 20);
      b[i] ^= a[i];
    }
    report("memcpy4K", now() - t0, 20 * k * 2048);
    free(a);
    free(b);
  }
  if (wanted("syscall")) {
    n = 200e3 * k;
    double t0 = now();
    for (uint64_t i = 0; i < n; i++) syscall(SYS_getppid);
    report("syscall", now() - t0, n);
  }
  if (wanted("pagefault")) {
    n = 8192 * k;
    double t0 = now();
    char *p = mmap(0, n * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (uint64_t i = 0; i < n; i++) p[i * 4096] = 1;
    munmap(p, n * 4096);
    report("pagefault", now() - t0, n);
  }
  if (wanted("fork")) {
    n = 200 * k;
    double t0 = now();
    for (uint64_t i = 0; i < n; i++) {
      pid_t c = fork();
      if (!c) _exit(0);
      waitpid(c, 0, 0);
    }
    report("fork", now() - t0, n);
  }
  if (wanted("pingpong")) {
    int a[2], b[2];
    char c = 0;
    if (pipe(a) || pipe(b)) return 1;
    n = 5000 * k;
    pid_t echo = fork();
    if (!echo) {
      close(a[1]);
      while (read(a[0], &c, 1) == 1)
        if (write(b[1], &c, 1) != 1) break;
      _exit(0);
    }
    double t0 = now();
    for (uint64_t i = 0; i < n; i++) {
      if (write(a[1], &c, 1) != 1 || read(b[0], &c, 1) != 1) return 1;
    }
    report("pingpong", now() - t0, n);
    close(a[1]);
    waitpid(echo, 0, 0);
  }
  {
    n = 50e3 * k;
    RUN("cpuid", n, cpuid(n));
  }
  return 0;
}
