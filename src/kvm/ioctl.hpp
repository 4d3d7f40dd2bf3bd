#pragma once
#include "base/int.hpp"
#include <cerrno>
#include <linux/kvm.h>
#include <span>
#include <sys/ioctl.h>
#include <vector>

namespace abyme::kvm {

// ioctl that a signal does not end. KVM_RUN, which a signal is meant to end, does not go through it.
template <class Argument> [[nodiscard]] int control(int fd, unsigned long request, Argument argument) {
  int result;
  do result = ::ioctl(fd, request, argument);
  while (result < 0 && errno == EINTR);
  return result;
}

// The heads of KVM's structures that end in an array, and the requests that carry their sizes. They are ours, since
// <linux/kvm.h> of several releases gives such a structure another size in C++ than in C, and the requests with it
// other numbers.
struct PaddedCount {
  u32 count, padding;
};
struct Count {
  u32 count;
};
constexpr unsigned long kGetMsrIndexList = _IOWR(KVMIO, 0x02, Count);
constexpr unsigned long kGetSupportedCpuid = _IOWR(KVMIO, 0x05, PaddedCount);
constexpr unsigned long kSetGsiRouting = _IOW(KVMIO, 0x6A, PaddedCount);
constexpr unsigned long kGetMsrs = _IOWR(KVMIO, 0x88, PaddedCount);
constexpr unsigned long kSetMsrs = _IOW(KVMIO, 0x89, PaddedCount);
constexpr unsigned long kSetCpuid2 = _IOW(KVMIO, 0x90, PaddedCount);

// One of those structures: a head that counts, and entries behind it.
template <class Head, class Entry> class Table {
public:
  explicit Table(size_t count) : words_((sizeof(Head) + count * sizeof(Entry) + 7) / 8) {
    head()->count = static_cast<u32>(count);
  }
  [[nodiscard]] Head *head() { return reinterpret_cast<Head *>(words_.data()); }
  [[nodiscard]] std::span<Entry> entries() {
    return {reinterpret_cast<Entry *>(reinterpret_cast<u8 *>(words_.data()) + sizeof(Head)), head()->count};
  }

private:
  std::vector<u64> words_;
};

// kGetMsrs or kSetMsrs of one; false if KVM refuses it.
[[nodiscard]] inline bool transfer_msr(int fd, unsigned long request, kvm_msr_entry &msr) {
  Table<PaddedCount, kvm_msr_entry> table(1);
  table.entries()[0] = msr;
  if (control(fd, request, table.head()) != 1) return false;
  msr = table.entries()[0];
  return true;
}

} // namespace abyme::kvm
