#include "net/vhost/mapping.hpp"
#include <atomic>
#include <csignal>
#include <mutex>
#include <sys/mman.h>
#include <sys/stat.h>
#include <utility>

namespace abyme::net {
namespace {

struct Entry {
  std::atomic<u64> start{0}, end{0};
  std::atomic<bool> torn{false};
};
constexpr int kEntries = 8192;
Entry entries[kEntries];
std::mutex entries_lock; // for taking and giving back; the handler only reads
struct sigaction previous;

void on_bus_error(int signal, siginfo_t *info, void *context) {
  const u64 address = reinterpret_cast<u64>(info->si_addr);
  for (Entry &e : entries) {
    const u64 start = e.start.load(), end = e.end.load();
    if (address < start || address >= end) continue;
    void *base = reinterpret_cast<void *>(start);
    if (mmap(base, end - start, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
             0) == base) {
      e.torn = true;
      return;
    }
  }
  if (previous.sa_flags & SA_SIGINFO && previous.sa_sigaction) return previous.sa_sigaction(signal, info, context);
  sigaction(SIGBUS, &previous, nullptr); // not ours: the fault repeats with what was there before
}

void install_handler() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action = {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGBUS, &action, &previous);
  });
}

int take_entry(u64 start, u64 end) {
  std::lock_guard lock(entries_lock);
  for (int i = 0; i < kEntries; i++) {
    if (entries[i].start) continue;
    entries[i].torn = false;
    entries[i].end = end;
    entries[i].start = start;
    return i;
  }
  return -1;
}

} // namespace

SharedMapping::SharedMapping(SharedMapping &&other) noexcept
    : base_(std::exchange(other.base_, nullptr)), size_(std::exchange(other.size_, 0)),
      entry_(std::exchange(other.entry_, -1)) {}

SharedMapping &SharedMapping::operator=(SharedMapping &&other) noexcept {
  if (this == &other) return *this;
  release();
  base_ = std::exchange(other.base_, nullptr);
  size_ = std::exchange(other.size_, 0);
  entry_ = std::exchange(other.entry_, -1);
  return *this;
}

SharedMapping::~SharedMapping() { release(); }

void SharedMapping::release() {
  if (!base_) return;
  {
    std::lock_guard lock(entries_lock);
    entries[entry_].start = entries[entry_].end = 0;
  }
  munmap(base_, size_);
  base_ = nullptr;
}

bool SharedMapping::torn() const { return entry_ >= 0 && entries[entry_].torn.load(std::memory_order_relaxed); }

Result<SharedMapping> SharedMapping::map(const Fd &file, u64 bytes) {
  struct stat info = {};
  if (fstat(file.get(), &info)) return fail_errno("cannot examine shared memory");
  if (bytes == 0 || static_cast<u64>(info.st_size) < bytes)
    return fail("shared memory of {} bytes was announced as {}; it must hold all of it", info.st_size, bytes);
  install_handler();
  const u64 page = static_cast<u64>(info.st_blksize) > kPageSize ? static_cast<u64>(info.st_blksize)
                                                                 : kPageSize; // huge pages map whole
  const u64 size = (bytes + page - 1) & ~(page - 1);
  void *base = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file.get(), 0);
  if (base == MAP_FAILED) return fail_errno(fmt::format("cannot map {} bytes of shared memory", size));
  SharedMapping m;
  m.base_ = static_cast<u8 *>(base);
  m.size_ = size;
  m.entry_ = take_entry(reinterpret_cast<u64>(base), reinterpret_cast<u64>(base) + size);
  if (m.entry_ < 0) {
    munmap(base, size);
    m.base_ = nullptr;
    return fail("more than {} pieces of shared memory are mapped already", kEntries);
  }
  return m;
}

} // namespace abyme::net
