#pragma once
#include "memory/guest_memory.hpp"
#include <expected>
#include <span>
#include <string_view>
#include <vector>

// The split virtqueue (virtio 1.2 §2.7), device side. Everything in it was written by a guest that may change it at any
// moment: each field is copied once and then checked, and only the copy is used.
namespace abyme::virtio {

// Where the driver put a queue: size entries, a power of two up to 32768.
struct QueueSetup {
  u16 size = 0;
  Gpa descriptors; // descriptor area: size × {u64 address, u32 length, u16 flags, u16 next}, aligned to 16
  Gpa available;   // driver area: {u16 flags, u16 index, u16 ring[size], u16 used_event}, aligned to 2
  Gpa used; // device area: {u16 flags, u16 index, {u32 id, u32 length} ring[size], u16 avail_event}, aligned to 4
  bool operator==(const QueueSetup &) const = default;
};

// How far the device has come; free-running (modulo 65536).
struct QueuePosition {
  u16 next_available = 0;
  u16 next_used = 0;
  bool operator==(const QueuePosition &) const = default;
};

// What a driver did that no driver may do. The device then needs a reset (virtio 1.2 §2.1.2).
enum class QueueFault : u8 {
  BadSize,            // not a power of two, or above the maximum
  BadArea,            // one of the three areas is misaligned or not RAM
  TooManyAvailable,   // the available index ran ahead by more than the queue's size
  BadHead,            // an available entry names no descriptor
  BadNext,            // a chain goes on at no descriptor
  Loop,               // a chain longer than its table
  NestedIndirect,     // an indirect table inside an indirect table
  IndirectWithNext,   // INDIRECT and NEXT in one descriptor
  IndirectNotOffered, // INDIRECT, without the feature
  BadIndirectTable,   // its length is no multiple of 16, too long, or it is not RAM
  ZeroLength,         // a buffer of no bytes
  BadBuffer,          // a buffer that is not RAM
  ReadableAfterWritable,
  TooLong, // over 4 GiB in all
  NoRoom,  // less room for what the device answers, or less data in a request, than the request's shape demands
};
[[nodiscard]] std::string_view name(QueueFault fault);

struct Buffer {
  Gpa at;
  u32 size;
  u8 *host; // size bytes
};

// One request of the driver: the buffers that the device reads, then those that it writes.
struct Chain {
  u16 head = 0;
  std::vector<Buffer> readable;
  std::vector<Buffer> writable;
  [[nodiscard]] u64 readable_size() const;
  [[nodiscard]] u64 writable_size() const;
};

// Copies out of (into) buffers as if they were one run of bytes (virtio 1.2 §2.7.4: a device assumes nothing about
// framing). Returns the bytes copied, fewer than asked where the buffers end.
[[nodiscard]] u64 copy_out(std::span<const Buffer> from, u64 offset, std::span<u8> to);
[[nodiscard]] u64 copy_in(GuestMemory &memory, std::span<const Buffer> to, u64 offset, std::span<const u8> from);
// The part [offset, offset + size) of such a run.
[[nodiscard]] std::vector<Buffer> slice(std::span<const Buffer> of, u64 offset, u64 size);

// Used by one thread at a time.
class Queue {
public:
  struct Features {
    bool event_idx = false;
    bool indirect = false;
  };
  [[nodiscard]] static std::expected<Queue, QueueFault> open(GuestMemory &memory, const QueueSetup &setup,
                                                             Features features, QueuePosition position = {});

  // Takes the next chain; false when the driver has made none available.
  [[nodiscard]] std::expected<bool, QueueFault> pop(Chain &chain);
  // Puts back the chain that pop() just took.
  void unpop() { --position_.next_available; }
  // Gives a chain back, with the number of bytes written to the start of its writable buffers.
  void push(u16 head, u32 written);
  // Whether the driver wants to hear of what was pushed since the last call.
  [[nodiscard]] bool take_notification();
  // Asks the driver to say nothing (something) of new chains. enable_kicks() returns whether chains came meanwhile.
  void disable_kicks();
  [[nodiscard]] bool enable_kicks();

  [[nodiscard]] QueuePosition position() const { return position_; }

private:
  struct Descriptor {
    u64 address;
    u32 length;
    u16 flags;
    u16 next;
  };
  Queue(GuestMemory &memory, const QueueSetup &setup, Features features, QueuePosition position);
  [[nodiscard]] bool locate();
  [[nodiscard]] u16 available_index() const;
  [[nodiscard]] std::expected<void, QueueFault> walk(const u8 *table, u32 entries, u16 first, bool indirect,
                                                     Chain &chain);
  [[nodiscard]] std::expected<void, QueueFault> walk_indirect(const Descriptor &descriptor, Chain &chain);
  [[nodiscard]] std::expected<void, QueueFault> add(const Descriptor &descriptor, Chain &chain);
  void write_used_u16(u64 offset, u16 value);

  GuestMemory *memory_;
  QueueSetup setup_;
  Features features_;
  QueuePosition position_;
  u16 notified_used_ = 0; // next_used when take_notification() was last called
  const u8 *descriptors_ = nullptr;
  const u8 *available_ = nullptr;
  u8 *used_ = nullptr;
};

} // namespace abyme::virtio
