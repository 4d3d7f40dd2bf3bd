#include "devices/virtio/queue.hpp"
#include <algorithm>
#include <atomic>

namespace abyme::virtio {
namespace {

constexpr u16 kMaxSize = 32768; // virtio 1.2 §2.7
constexpr u32 kDescriptorBytes = 16;
constexpr u32 kMaxIndirect =
    1024; // Linux exceeds the queue's size in indirect tables; this bounds the work for one request
constexpr u64 kMaxChainBytes = 1ull << 32;
constexpr u16 kDescNext = 1, kDescWrite = 2, kDescIndirect = 4; // virtio 1.2 §2.7.5
constexpr u16 kAvailNoInterrupt = 1;
constexpr u16 kUsedNoNotify = 1;

// Sequentially consistent, because each side writes its own word and then reads the other's (virtio 1.2 §2.7.7,
// §2.7.10). The areas are aligned (Queue::open), and guest RAM begins on a page on both sides.
u16 load_u16(const u8 *at) {
  return std::atomic_ref(*reinterpret_cast<u16 *>(const_cast<u8 *>(at))).load(std::memory_order_seq_cst);
}
void store_u16(u8 *at, u16 value) {
  std::atomic_ref(*reinterpret_cast<u16 *>(at)).store(value, std::memory_order_seq_cst);
}

u64 total(std::span<const Buffer> buffers) {
  u64 sum = 0;
  for (const Buffer &b : buffers) sum += b.size;
  return sum;
}

// Calls step(host, gpa, size) for each piece of [offset, offset + size) and returns the bytes covered.
template <class Step> u64 for_pieces(std::span<const Buffer> buffers, u64 offset, u64 size, Step step) {
  u64 done = 0;
  for (const Buffer &b : buffers) {
    if (done == size) break;
    if (offset >= b.size) {
      offset -= b.size;
      continue;
    }
    const u64 piece = std::min(size - done, b.size - offset);
    step(b.host + offset, b.at + offset, done, piece);
    done += piece;
    offset = 0;
  }
  return done;
}

} // namespace

std::string_view name(QueueFault fault) {
  switch (fault) {
  case QueueFault::BadSize: return "the queue's size is not a power of two within the maximum";
  case QueueFault::BadArea: return "a queue area is misaligned or outside of RAM";
  case QueueFault::TooManyAvailable: return "the available index is ahead by more than the queue's size";
  case QueueFault::BadHead: return "an available entry names no descriptor";
  case QueueFault::BadNext: return "a descriptor goes on at no descriptor";
  case QueueFault::Loop: return "a descriptor chain loops";
  case QueueFault::NestedIndirect: return "an indirect table holds an indirect descriptor";
  case QueueFault::IndirectWithNext: return "an indirect descriptor goes on";
  case QueueFault::IndirectNotOffered: return "an indirect descriptor without the feature";
  case QueueFault::BadIndirectTable: return "an indirect table of a wrong length or outside of RAM";
  case QueueFault::ZeroLength: return "a buffer of zero bytes";
  case QueueFault::BadBuffer: return "a buffer outside of RAM";
  case QueueFault::ReadableAfterWritable: return "a device-readable buffer after a device-writable one";
  case QueueFault::TooLong: return "a descriptor chain over 4 GiB";
  case QueueFault::NoRoom: return "a request too short for its own header or answer";
  }
  return "unknown";
}

u64 Chain::readable_size() const { return total(readable); }
u64 Chain::writable_size() const { return total(writable); }

u64 copy_out(std::span<const Buffer> from, u64 offset, std::span<u8> to) {
  return for_pieces(from, offset, to.size(),
                    [&](u8 *host, Gpa, u64 done, u64 size) { std::memcpy(to.data() + done, host, size); });
}

u64 copy_in(GuestMemory &memory, std::span<const Buffer> to, u64 offset, std::span<const u8> from) {
  return for_pieces(to, offset, from.size(), [&](u8 *host, Gpa at, u64 done, u64 size) {
    std::memcpy(host, from.data() + done, size);
    memory.note_written(at, size);
  });
}

std::vector<Buffer> slice(std::span<const Buffer> of, u64 offset, u64 size) {
  std::vector<Buffer> part;
  for_pieces(of, offset, size, [&](u8 *host, Gpa at, u64, u64 piece) {
    part.push_back({at, static_cast<u32>(piece), host});
  });
  return part;
}

Queue::Queue(GuestMemory &memory, const QueueSetup &setup, Features features, QueuePosition position)
    : memory_(&memory), setup_(setup), features_(features), position_(position), notified_used_(position.next_used) {}

std::expected<Queue, QueueFault> Queue::open(GuestMemory &memory, const QueueSetup &setup, Features features,
                                             QueuePosition position) {
  if (setup.size == 0 || setup.size > kMaxSize || (setup.size & (setup.size - 1)) != 0)
    return std::unexpected(QueueFault::BadSize);
  Queue queue(memory, setup, features, position);
  if (!queue.locate()) return std::unexpected(QueueFault::BadArea);
  return queue;
}

// virtio 1.2 §2.7: alignment and size of the three areas.
bool Queue::locate() {
  const u64 n = setup_.size;
  if (setup_.descriptors.value % 16 != 0 || setup_.available.value % 2 != 0 || setup_.used.value % 4 != 0) return false;
  descriptors_ = memory_->host(setup_.descriptors, n * kDescriptorBytes);
  available_ = memory_->host(setup_.available, 6 + 2 * n);
  used_ = memory_->host(setup_.used, 6 + 8 * n);
  return descriptors_ && available_ && used_;
}

u16 Queue::available_index() const { return load_u16(available_ + 2); }

std::expected<bool, QueueFault> Queue::pop(Chain &chain) {
  const u16 pending = static_cast<u16>(available_index() - position_.next_available);
  if (pending == 0) return false;
  if (pending > setup_.size) return std::unexpected(QueueFault::TooManyAvailable);
  const u16 head = load_u16(available_ + 4 + 2 * (position_.next_available % setup_.size));
  if (head >= setup_.size) return std::unexpected(QueueFault::BadHead);
  chain.head = head;
  chain.readable.clear();
  chain.writable.clear();
  if (const auto walked = walk(descriptors_, setup_.size, head, false, chain); !walked)
    return std::unexpected(walked.error());
  if (chain.readable_size() + chain.writable_size() > kMaxChainBytes) return std::unexpected(QueueFault::TooLong);
  ++position_.next_available;
  return true;
}

std::expected<void, QueueFault> Queue::walk(const u8 *table, u32 entries, u16 first, bool indirect, Chain &chain) {
  u16 index = first;
  for (u32 steps = 0; steps < entries; ++steps) {
    if (index >= entries) return std::unexpected(QueueFault::BadNext);
    Descriptor descriptor;
    std::memcpy(&descriptor, table + u64{index} * kDescriptorBytes, sizeof descriptor);
    // The compiler may not read the descriptor again: the guest could have changed it.
    asm volatile("" : "+m"(descriptor) : : "memory");
    if (descriptor.flags & kDescIndirect) {
      if (indirect) return std::unexpected(QueueFault::NestedIndirect);
      return walk_indirect(descriptor, chain);
    }
    if (const auto added = add(descriptor, chain); !added) return added;
    if (!(descriptor.flags & kDescNext)) return {};
    index = descriptor.next;
  }
  return std::unexpected(QueueFault::Loop);
}

// virtio 1.2 §2.7.5.3
std::expected<void, QueueFault> Queue::walk_indirect(const Descriptor &descriptor, Chain &chain) {
  if (!features_.indirect) return std::unexpected(QueueFault::IndirectNotOffered);
  if (descriptor.flags & kDescNext) return std::unexpected(QueueFault::IndirectWithNext);
  const u32 entries = descriptor.length / kDescriptorBytes;
  if (descriptor.length % kDescriptorBytes != 0 || entries == 0 || entries > kMaxIndirect)
    return std::unexpected(QueueFault::BadIndirectTable);
  const u8 *table = memory_->host(Gpa(descriptor.address), descriptor.length);
  if (!table) return std::unexpected(QueueFault::BadIndirectTable);
  return walk(table, entries, 0, true, chain);
}

std::expected<void, QueueFault> Queue::add(const Descriptor &descriptor, Chain &chain) {
  if (descriptor.length == 0) return std::unexpected(QueueFault::ZeroLength);
  u8 *host = memory_->host(Gpa(descriptor.address), descriptor.length);
  if (!host) return std::unexpected(QueueFault::BadBuffer);
  const bool writable = descriptor.flags & kDescWrite;
  if (!writable && !chain.writable.empty()) return std::unexpected(QueueFault::ReadableAfterWritable);
  (writable ? chain.writable : chain.readable).push_back({Gpa(descriptor.address), descriptor.length, host});
  return {};
}

void Queue::write_used_u16(u64 offset, u16 value) {
  store_u16(used_ + offset, value);
  memory_->note_written(setup_.used + offset, 2);
}

void Queue::push(u16 head, u32 written) {
  const u64 offset = 4 + 8 * u64{static_cast<u16>(position_.next_used % setup_.size)};
  const u32 entry[2] = {head, written};
  std::memcpy(used_ + offset, entry, sizeof entry);
  memory_->note_written(setup_.used + offset, sizeof entry);
  write_used_u16(2, ++position_.next_used);
}

// virtio 1.2 §2.7.7.2, §2.7.10
bool Queue::take_notification() {
  const u16 from = std::exchange(notified_used_, position_.next_used);
  const u16 pushed = static_cast<u16>(position_.next_used - from);
  if (pushed == 0) return false;
  if (!features_.event_idx) return !(load_u16(available_) & kAvailNoInterrupt);
  const u16 used_event = load_u16(available_ + 4 + 2 * u64{setup_.size});
  return static_cast<u16>(position_.next_used - used_event - 1) < pushed;
}

void Queue::disable_kicks() {
  if (!features_.event_idx)
    write_used_u16(0, kUsedNoNotify); // with event-idx a stale avail_event says nothing by itself
}

bool Queue::enable_kicks() {
  if (features_.event_idx)
    write_used_u16(4 + 8 * u64{setup_.size}, position_.next_available);
  else
    write_used_u16(0, 0);
  return available_index() != position_.next_available;
}

} // namespace abyme::virtio
