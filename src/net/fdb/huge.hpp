#pragma once
#include <cstdlib>
#include <new>
#include <sys/mman.h>

namespace abyme::net {

// An allocator for tables that are probed at random: asks for huge pages, without which most probes miss the TLB too.
template <class T> struct HugeAllocator {
  using value_type = T;
  HugeAllocator() = default;
  template <class U> explicit HugeAllocator(const HugeAllocator<U> &) {}
  static constexpr std::size_t kHuge = 2u << 20;
  [[nodiscard]] T *allocate(std::size_t n) {
    const std::size_t bytes = n * sizeof(T), align = bytes >= kHuge ? kHuge : 64;
    void *p = std::aligned_alloc(align, (bytes + align - 1) & ~(align - 1));
    if (!p) throw std::bad_alloc();
    if (align == kHuge) madvise(p, bytes, MADV_HUGEPAGE);
    return static_cast<T *>(p);
  }
  void deallocate(T *p, std::size_t) { std::free(p); }
  bool operator==(const HugeAllocator &) const = default;
};

} // namespace abyme::net
