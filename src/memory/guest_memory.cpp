#include "memory/guest_memory.hpp"
#include <algorithm>
#include <sys/mman.h>

namespace abyme {

Result<std::unique_ptr<GuestMemory>> GuestMemory::create(u64 size) {
  if (size == 0 || size % kPageSize != 0) return fail("guest memory: {} bytes is not a whole number of 4 KiB pages", size);
  auto memory = std::unique_ptr<GuestMemory>(new GuestMemory);
  memory->fd_ = Fd(memfd_create("abyme-ram", MFD_CLOEXEC));
  if (!memory->fd_) return fail_errno("guest memory: memfd_create");
  if (ftruncate(memory->fd_.get(), static_cast<off_t>(size)) != 0) return fail_errno("guest memory: ftruncate");
  void *ram = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memory->fd_.get(), 0);
  if (ram == MAP_FAILED) return fail_errno(fmt::format("guest memory: mapping {} MiB", size >> 20));
  void *code = mmap(nullptr, size / kPageSize * sizeof(u64), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  memory->size_ = size;
  memory->base_ = static_cast<u8 *>(ram);
  if (code == MAP_FAILED) return fail_errno("guest memory: mapping the table of code pages");
  memory->code_ = static_cast<std::atomic<u64> *>(code);
  const u64 low = std::min(size, kHoleStart);
  memory->regions_[0] = {Gpa(0), low, memory->base_, 0};
  memory->region_count_ = 1;
  if (size > low) memory->regions_[memory->region_count_++] = {Gpa(kHoleEnd), size - low, memory->base_ + low, low};
  return memory;
}

GuestMemory::~GuestMemory() {
  if (base_) munmap(base_, size_);
  if (code_) munmap(static_cast<void *>(code_), size_ / kPageSize * sizeof(u64));
}

u8 *GuestMemory::host_high(Gpa at, u64 size) const {
  const Region &high = regions_[1];
  if (at < Gpa(kHoleEnd)) return nullptr;
  const u64 offset = at - Gpa(kHoleEnd);
  return offset < high.size && size <= high.size - offset ? high.host + offset : nullptr;
}

bool GuestMemory::read(Gpa at, void *to, u64 size) const {
  const u8 *from = host(at, size);
  if (from) std::memcpy(to, from, size);
  return from != nullptr;
}

bool GuestMemory::write(Gpa at, const void *from, u64 size) {
  u8 *to = host(at, size);
  if (!to) return false;
  std::memcpy(to, from, size);
  note_written(at, size);
  return true;
}

void GuestMemory::note_written(Gpa at, u64 size) {
  if (size == 0 || !host(at, size)) return;
  for (Gpa page = at.page(); page <= (at + (size - 1)).page(); page = page + kPageSize) {
    if (!is_code(page)) continue;
    const u64 first = page < at ? at.page_offset() / 64 : 0;
    const Gpa last_byte = at + (size - 1);
    const u64 last = last_byte.page() == page ? last_byte.page_offset() / 64 : 63;
    const u64 lines = (~0ull >> (63 - (last - first))) << first;
    if (!(code_[index(page)].load(std::memory_order_seq_cst) & lines)) continue;
    code_[index(page)].store(0, std::memory_order_seq_cst);
    if (listener_) listener_->code_written(page);
  }
}

void GuestMemory::clear() {
  // A hole in the memfd reads as zeroes and gives the memory back.
  madvise(base_, size_, MADV_REMOVE);
  madvise(static_cast<void *>(code_), size_ / kPageSize * sizeof(u64), MADV_DONTNEED);
}

} // namespace abyme
