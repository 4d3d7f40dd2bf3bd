#include "devices/virtio/queue.hpp"
#include <algorithm>
#include <cstdio>
#include <cstdlib>

// A split virtqueue whose driver is the input: it chooses the areas, writes anything into memory between the device's
// steps, and must get nothing but faults or buffers that are RAM.
namespace {

using namespace abyme;
using namespace abyme::virtio;

constexpr u64 kMemory = 64_KiB;

[[noreturn]] void broken(const char *what) {
  std::fprintf(stderr, "virtio_queue: %s\n", what);
  std::abort();
}

class Reader {
public:
  Reader(const u8 *data, std::size_t size) : data_(data), size_(size) {}
  [[nodiscard]] bool empty() const { return size_ == 0; }
  template <class T> [[nodiscard]] T take() {
    T value{};
    const std::size_t n = std::min(size_, sizeof value);
    if (n != 0) std::memcpy(&value, data_, n);
    data_ += n;
    size_ -= n;
    return value;
  }

private:
  const u8 *data_;
  std::size_t size_;
};

void check(const GuestMemory &memory, const Chain &chain, u16 queue_size) {
  if (chain.head >= queue_size) broken("a head that is no descriptor");
  if (chain.readable.size() + chain.writable.size() > queue_size + 1024u) broken("a chain of too many buffers");
  if (chain.readable.empty() && chain.writable.empty()) broken("a chain of nothing");
  for (const auto *list : {&chain.readable, &chain.writable})
    for (const Buffer &b : *list) {
      if (b.size == 0) broken("a buffer of no bytes");
      if (b.host == nullptr || memory.host(b.at, b.size) != b.host) broken("a buffer that is not RAM");
    }
}

void serve(GuestMemory &memory, Queue &queue, const Chain &chain, Reader &input) {
  u8 bytes[300] = {};
  const u64 offset = input.take<u8>();
  if (copy_out(chain.readable, offset, bytes) > sizeof bytes) broken("more copied out than asked for");
  const u64 written = copy_in(memory, chain.writable, offset, bytes);
  const u64 room = chain.writable_size();
  if (written != std::min<u64>(sizeof bytes, room > offset ? room - offset : 0))
    broken("a wrong number of bytes copied in");
  queue.push(chain.head, static_cast<u32>(written));
}

// A guest's writes: of a descriptor, which may well be or name an indirect table, or anywhere.
void write_memory(GuestMemory &memory, const QueueSetup &setup, Reader &input) {
  const u8 what = input.take<u8>();
  if (!(what & 1)) {
    const Gpa at(input.take<u16>());
    (void)memory.store(at, input.take<u64>());
    return;
  }
  const Gpa at = setup.descriptors + 16u * (what >> 4);
  const u64 address = input.take<u16>();
  (void)memory.store(at, what & 2 ? (setup.descriptors + 16u * (address & 15)).value : address);
  (void)memory.store(at + 8, what & 4 ? 16u * input.take<u8>() : u32{input.take<u16>()});
  (void)memory.store(at + 12, static_cast<u16>(input.take<u8>() & 7));
  (void)memory.store(at + 14, u16{input.take<u8>()});
}

void offer(GuestMemory &memory, const QueueSetup &setup, Reader &input) {
  u16 index = 0;
  (void)memory.load(setup.available + 2, index);
  (void)memory.store(setup.available + 4 + 2u * (index % setup.size), u16{input.take<u8>()});
  (void)memory.store(setup.available + 2, static_cast<u16>(index + 1));
}

GuestMemory &ram() {
  static const auto memory = GuestMemory::create(kMemory).value();
  std::memset(memory->host(Gpa(0), kMemory), 0, kMemory);
  return *memory;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8 *data, std::size_t size) {
  GuestMemory &memory = ram();
  Reader input(data, size);
  const u8 mode = input.take<u8>();
  QueueSetup setup{.size = static_cast<u16>(1u << (mode & 7)),
                   .descriptors = Gpa(0x1000),
                   .available = Gpa(0x3000),
                   .used = Gpa(0x4000)};
  if (mode & 0x40) setup = {input.take<u16>(), Gpa(input.take<u64>()), Gpa(input.take<u64>()), Gpa(input.take<u64>())};
  auto opened = Queue::open(memory, setup, {.event_idx = (mode & 0x10) != 0, .indirect = (mode & 0x20) != 0},
                            {.next_available = 0, .next_used = static_cast<u16>(mode & 0x80 ? 0xfffe : 0)});
  if (!opened) return 0;
  Chain chain;
  while (!input.empty()) {
    switch (input.take<u8>() % 8) {
    case 0: opened->disable_kicks(); break;
    case 1: (void)opened->enable_kicks(); break;
    case 2: (void)opened->take_notification(); break;
    case 3:
    case 4: offer(memory, setup, input); break;
    case 5:
      if (const auto popped = opened->pop(chain); popped && *popped) {
        check(memory, chain, setup.size);
        serve(memory, *opened, chain, input);
      }
      break;
    default: write_memory(memory, setup, input);
    }
  }
  return 0;
}
