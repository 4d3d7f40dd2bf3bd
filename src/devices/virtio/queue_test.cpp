#include "devices/virtio/queue.hpp"
#include <array>
#include <atomic>
#include <gtest/gtest.h>
#include <thread>

namespace abyme::virtio {
namespace {

constexpr u16 kNext = 1, kWrite = 2, kIndirect = 4;

// A driver that writes rings by hand.
struct Ring : testing::Test {
  static constexpr u16 kSize = 8;
  QueueSetup setup{.size = kSize, .descriptors = Gpa(0x1000), .available = Gpa(0x2000), .used = Gpa(0x3000)};
  std::unique_ptr<GuestMemory> memory = GuestMemory::create(1_MiB).value();
  u16 available = 0;

  void descriptor(Gpa table, u16 index, u64 at, u32 size, u16 flags, u16 next) {
    ASSERT_TRUE(memory->store(table + 16u * index, at) && memory->store(table + 16u * index + 8, size) &&
                memory->store(table + 16u * index + 12, flags) && memory->store(table + 16u * index + 14, next));
  }
  void offer(u16 head) {
    ASSERT_TRUE(memory->store(setup.available + 4 + 2u * (available % kSize), head));
    ASSERT_TRUE(memory->store(setup.available + 2, ++available));
  }
  [[nodiscard]] Queue open(Queue::Features features = {.event_idx = false, .indirect = true}) {
    return Queue::open(*memory, setup, features).value();
  }
  // What a queue says of the chain at descriptor 0.
  [[nodiscard]] std::expected<bool, QueueFault> take(Queue::Features features = {.event_idx = false,
                                                                                 .indirect = true}) {
    Queue queue = open(features);
    offer(0);
    return queue.pop(chain);
  }
  template <class T> [[nodiscard]] T load(Gpa at) {
    T value{};
    EXPECT_TRUE(memory->load(at, value));
    return value;
  }
  Chain chain;
};

TEST_F(Ring, OpenChecksSizeAndAreas) {
  const auto fault = [&](QueueSetup s) {
    const auto q = Queue::open(*memory, s, {});
    return q ? std::optional<QueueFault>() : q.error();
  };
  EXPECT_EQ(fault(setup), std::nullopt);
  for (const u16 size : {0, 3, 6, 40000}) {
    QueueSetup s = setup;
    s.size = size;
    EXPECT_EQ(fault(s), QueueFault::BadSize) << size;
  }
  for (Gpa QueueSetup::*area : {&QueueSetup::descriptors, &QueueSetup::available, &QueueSetup::used})
    for (const u64 at : {0x1001ull, 0xffff8ull, 0x100000ull, 0xc0000000ull, 0xfffffffffffffff0ull}) {
      QueueSetup s = setup;
      s.*area = Gpa(at);
      EXPECT_EQ(fault(s), QueueFault::BadArea) << std::hex << at;
    }
}

TEST_F(Ring, WalksAChainAndGivesItBack) {
  descriptor(setup.descriptors, 0, 0x8000, 16, kNext, 5);
  descriptor(setup.descriptors, 5, 0x9000, 512, kNext | kWrite, 2);
  descriptor(setup.descriptors, 2, 0xa000, 1, kWrite, 0);
  Queue queue = open();
  EXPECT_FALSE(queue.pop(chain).value());
  offer(0);
  ASSERT_TRUE(queue.pop(chain).value());
  ASSERT_EQ(chain.readable.size(), 1u);
  ASSERT_EQ(chain.writable.size(), 2u);
  EXPECT_EQ(chain.writable_size(), 513u);
  EXPECT_FALSE(queue.pop(chain).value());
  queue.push(0, 513);
  EXPECT_EQ(load<u16>(setup.used + 2), 1u);
  EXPECT_EQ(load<u32>(setup.used + 8), 513u);
  EXPECT_EQ(queue.position(), (QueuePosition{1, 1}));
}

TEST_F(Ring, CopiesAcrossBuffers) {
  descriptor(setup.descriptors, 0, 0x8000, 3, kNext | kWrite, 1);
  descriptor(setup.descriptors, 1, 0x9000, 4, kWrite, 0);
  ASSERT_TRUE(take().value());
  const std::array<u8, 6> bytes{1, 2, 3, 4, 5, 6};
  EXPECT_EQ(copy_in(*memory, chain.writable, 2, bytes), 5u);
  EXPECT_EQ(load<u8>(Gpa(0x8002)), 1u);
  EXPECT_EQ(load<u32>(Gpa(0x9000)), 0x05040302u);
  std::array<u8, 8> back{};
  EXPECT_EQ(copy_out(chain.writable, 1, back), 6u);
  EXPECT_EQ(back, (std::array<u8, 8>{0, 1, 2, 3, 4, 5, 0, 0}));
  const auto part = slice(chain.writable, 2, 3);
  ASSERT_EQ(part.size(), 2u);
  EXPECT_EQ(part[0].at, Gpa(0x8002));
  EXPECT_EQ(part[1].size, 2u);
}

TEST_F(Ring, IndirectTables) {
  descriptor(setup.descriptors, 0, 0x4000, 32, kIndirect, 0);
  descriptor(Gpa(0x4000), 0, 0x8000, 16, kNext, 1);
  descriptor(Gpa(0x4000), 1, 0x9000, 16, kWrite, 0);
  ASSERT_TRUE(take().value());
  EXPECT_EQ(chain.readable_size(), 16u);
  EXPECT_EQ(chain.writable_size(), 16u);
}

TEST_F(Ring, RefusesWhatNoDriverMayDo) {
  struct Case {
    u64 at;
    u32 size;
    u16 flags, next;
    QueueFault fault;
  };
  const Case cases[] = {
      {0x8000, 16, kNext, 0, QueueFault::Loop},
      {0x8000, 16, kNext, 8, QueueFault::BadNext},
      {0x8000, 16, kNext, 0xffff, QueueFault::BadNext},
      {0x8000, 0, 0, 0, QueueFault::ZeroLength},
      {0xff000, 0x1001, 0, 0, QueueFault::BadBuffer},
      {0xfffffffffffffff0, 0x20, 0, 0, QueueFault::BadBuffer},
      {0x8000, 0xffffffff, 0, 0, QueueFault::BadBuffer},
      {0x4000, 16, kIndirect | kNext, 1, QueueFault::IndirectWithNext},
      {0x4000, 0, kIndirect, 0, QueueFault::BadIndirectTable},
      {0x4000, 17, kIndirect, 0, QueueFault::BadIndirectTable},
      {0x4000, 0x100000, kIndirect, 0, QueueFault::BadIndirectTable},
      {0xffff8, 16, kIndirect, 0, QueueFault::BadIndirectTable},
  };
  for (const Case &c : cases) {
    available = 0;
    descriptor(setup.descriptors, 0, c.at, c.size, c.flags, c.next);
    const auto got = take();
    ASSERT_FALSE(got) << name(c.fault);
    EXPECT_EQ(name(got.error()), name(c.fault));
  }
}

TEST_F(Ring, RefusesIndirectionsOfIndirections) {
  descriptor(setup.descriptors, 0, 0x4000, 16, kIndirect, 0);
  descriptor(Gpa(0x4000), 0, 0x4000, 16, kIndirect, 0);
  EXPECT_EQ(take().error(), QueueFault::NestedIndirect);
  available = 0;
  EXPECT_EQ(take({.event_idx = false, .indirect = false}).error(), QueueFault::IndirectNotOffered);
}

TEST_F(Ring, RefusesALoopInsideAnIndirectTable) {
  descriptor(setup.descriptors, 0, 0x4000, 32, kIndirect, 0);
  descriptor(Gpa(0x4000), 0, 0x8000, 16, kNext, 1);
  descriptor(Gpa(0x4000), 1, 0x8000, 16, kNext, 0);
  EXPECT_EQ(take().error(), QueueFault::Loop);
}

TEST_F(Ring, RefusesReadableAfterWritable) {
  descriptor(setup.descriptors, 0, 0x8000, 16, kNext | kWrite, 1);
  descriptor(setup.descriptors, 1, 0x8000, 16, 0, 0);
  EXPECT_EQ(take().error(), QueueFault::ReadableAfterWritable);
}

TEST_F(Ring, RefusesIndicesThatRunAway) {
  Queue queue = open();
  ASSERT_TRUE(memory->store(setup.available + 2, u16{kSize + 1}));
  EXPECT_EQ(queue.pop(chain).error(), QueueFault::TooManyAvailable);
  ASSERT_TRUE(memory->store(setup.available + 2, u16{1}));
  ASSERT_TRUE(memory->store(setup.available + 4, u16{kSize}));
  EXPECT_EQ(queue.pop(chain).error(), QueueFault::BadHead);
}

TEST_F(Ring, NotifiesByFlagWithoutEventIndex) {
  Queue queue = open();
  EXPECT_FALSE(queue.take_notification());
  queue.push(0, 0);
  EXPECT_TRUE(queue.take_notification());
  ASSERT_TRUE(memory->store(setup.available, u16{1}));
  queue.push(0, 0);
  EXPECT_FALSE(queue.take_notification());
  queue.disable_kicks();
  EXPECT_EQ(load<u16>(setup.used), 1u);
  EXPECT_FALSE(queue.enable_kicks());
  EXPECT_EQ(load<u16>(setup.used), 0u);
}

// virtio 1.2 §2.7.10: the interrupt comes when the index passes used_event.
TEST_F(Ring, NotifiesByEventIndex) {
  Queue queue = open({.event_idx = true, .indirect = false});
  const Gpa used_event = setup.available + 4 + 2 * kSize;
  ASSERT_TRUE(memory->store(used_event, u16{2}));
  queue.push(0, 0);
  queue.push(0, 0);
  EXPECT_FALSE(queue.take_notification());
  queue.push(0, 0);
  EXPECT_TRUE(queue.take_notification());
  queue.push(0, 0);
  EXPECT_FALSE(queue.take_notification());
  offer(0);
  EXPECT_TRUE(queue.enable_kicks());
  EXPECT_EQ(load<u16>(setup.used + 4 + 8 * kSize), 0u); // avail_event
}

TEST_F(Ring, PositionsWrap) {
  descriptor(setup.descriptors, 0, 0x8000, 16, 0, 0);
  available = 0xffff;
  ASSERT_TRUE(memory->store(setup.available + 2, available));
  Queue queue = Queue::open(*memory, setup, {}, {.next_available = 0xffff, .next_used = 0xffff}).value();
  offer(0);
  ASSERT_TRUE(queue.pop(chain).value());
  queue.push(chain.head, 0);
  EXPECT_EQ(queue.position(), QueuePosition{});
  EXPECT_EQ(load<u16>(setup.used + 2), 0u);
}

// What is checked is what is used, whatever the guest writes meanwhile.
TEST_F(Ring, ADescriptorThatChangesWhileItIsReadIsOneOrTheOther) {
  descriptor(setup.descriptors, 0, 0x8000, 16, kWrite, 0);
  std::atomic<bool> stop = false;
  std::jthread guest([&] {
    auto *length = reinterpret_cast<u32 *>(memory->host(setup.descriptors + 8, 4));
    for (u32 i = 0; !stop; ++i) std::atomic_ref(*length).store(i % 2 ? 16 : 0x7fff'ffff, std::memory_order_relaxed);
  });
  Queue queue = open();
  offer(0);
  unsigned good = 0;
  for (unsigned i = 0; i < 100'000; ++i) {
    const auto popped = queue.pop(chain);
    if (!popped) {
      ASSERT_EQ(popped.error(), QueueFault::BadBuffer);
      continue;
    }
    ASSERT_EQ(chain.writable.at(0).size, 16u);
    queue.unpop();
    ++good;
  }
  stop = true;
  EXPECT_GT(good, 0u);
}

struct Writes final : CodeListener {
  void code_written(Gpa page) override { pages.push_back(page); }
  std::vector<Gpa> pages;
};

TEST_F(Ring, TellsOfWritesToPagesWithCode) {
  Writes writes;
  memory->set_code_listener(&writes);
  memory->add_code(Gpa(0x3000), ~0ull);
  memory->add_code(Gpa(0x9000), ~0ull);
  descriptor(setup.descriptors, 0, 0x9000, 4, kWrite, 0);
  Queue queue = open();
  offer(0);
  ASSERT_TRUE(queue.pop(chain).value());
  EXPECT_TRUE(writes.pages.empty());
  const u8 byte = 1;
  EXPECT_EQ(copy_in(*memory, chain.writable, 0, {&byte, 1}), 1u);
  EXPECT_EQ(writes.pages, std::vector{Gpa(0x9000)});
  queue.push(0, 1);
  EXPECT_EQ(writes.pages.back(), Gpa(0x3000));
}

} // namespace
} // namespace abyme::virtio
