#include "devices/virtio/guest_driver.hpp"
#include <gtest/gtest.h>
#include <thread>

namespace abyme::virtio::test {
namespace {

constexpr auto kPatience = 5s;
constexpr unsigned kCommonCfg = 1, kNotifyCfg = 2, kIsrCfg = 3, kDeviceCfg = 4, kPciCfg = 5;

} // namespace

void Interrupts::message(u64 address, u32 data) {
  EXPECT_EQ(address, 0xfee00000u);
  const std::lock_guard lock(mutex_);
  ++messages_[data];
  changed_.notify_all();
}

void Interrupts::set(bool level) {
  const std::lock_guard lock(mutex_);
  level_ = level;
  changed_.notify_all();
}

bool Interrupts::wait_message(u32 data, unsigned count) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kPatience, [&] { return messages_[data] >= count; });
}

bool Interrupts::wait_level(bool level) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kPatience, [&] { return level_ == level; });
}

unsigned Interrupts::messages(u32 data) {
  const std::lock_guard lock(mutex_);
  return messages_[data];
}

Pc::Pc(std::unique_ptr<Device> device, u64 memory_size)
    : memory(GuestMemory::create(memory_size).value()),
      function(VirtioPci::create(bus, interrupts, *memory, std::move(device)).value()),
      host_(std::make_unique<PciHost>(bus, interrupts, no_reset_)) {
  EXPECT_TRUE(host_->attach(kSlot, *function, interrupts));
}

Pc::~Pc() = default;

Gpa Pc::allocate(u64 size, u64 alignment) {
  const Gpa at((next_.value + alignment - 1) & ~(alignment - 1));
  next_ = at + size;
  EXPECT_NE(memory->host(at, size), nullptr) << "the test's guest is out of memory";
  return at;
}

u32 Pc::config_read(unsigned offset, unsigned size) {
  bus.port_write(0xcf8, 4, 0x8000'0000 | kSlot << 11 | (offset & ~3u));
  return bus.port_read(static_cast<u16>(0xcfc + offset % 4), size);
}

void Pc::config_write(unsigned offset, unsigned size, u32 value) {
  bus.port_write(0xcf8, 4, 0x8000'0000 | kSlot << 11 | (offset & ~3u));
  bus.port_write(static_cast<u16>(0xcfc + offset % 4), size, value);
}

DriverQueue::DriverQueue(Pc &pc, u16 size, bool event_idx)
    : setup{.size = size,
            .descriptors = pc.allocate(16u * size),
            .available = pc.allocate(6 + 2u * size, 2),
            .used = pc.allocate(6 + 8u * size, 4)},
      pc_(pc) {
  if (event_idx) set_used_event(0);
}

void DriverQueue::write_descriptor(u16 index, u64 at, u32 size, u16 flags, u16 next) {
  const Gpa d = setup.descriptors + 16u * index;
  EXPECT_TRUE(pc_.memory->store(d, at) && pc_.memory->store(d + 8, size) && pc_.memory->store(d + 12, flags) &&
              pc_.memory->store(d + 14, next));
}

u16 DriverQueue::add(std::span<const Piece> pieces, bool indirect) {
  const auto count = static_cast<u16>(pieces.size());
  const u16 head = next_descriptor_;
  const Gpa table = indirect ? pc_.allocate(16u * count) : Gpa(0);
  for (u16 i = 0; i < count; ++i) {
    const bool last = i + 1 == count;
    const auto flags = static_cast<u16>((last ? 0 : 1) | (pieces[i].writable ? 2 : 0));
    if (!indirect) {
      const auto own = static_cast<u16>((head + i) % setup.size);
      write_descriptor(own, pieces[i].at.value, pieces[i].size, flags, static_cast<u16>((own + 1) % setup.size));
      continue;
    }
    const u16 tail[2] = {flags, static_cast<u16>(i + 1)};
    EXPECT_TRUE(pc_.memory->store(table + 16u * i, pieces[i].at.value) &&
                pc_.memory->store(table + 16u * i + 8, pieces[i].size) &&
                pc_.memory->store(table + 16u * i + 12, tail));
  }
  if (indirect) write_descriptor(head, table.value, 16u * count, 4, 0);
  next_descriptor_ = static_cast<u16>((head + (indirect ? 1 : count)) % setup.size);
  make_available(head);
  return head;
}

void DriverQueue::make_available(u16 head) {
  EXPECT_TRUE(pc_.memory->store(setup.available + 4 + 2u * (next_available_ % setup.size), head));
  set_available_index(++next_available_);
}

void DriverQueue::set_available_index(u16 index) {
  std::atomic_ref(*reinterpret_cast<u16 *>(pc_.memory->host(setup.available + 2, 2))).store(index);
}

void DriverQueue::set_used_event(u16 index) {
  EXPECT_TRUE(pc_.memory->store(setup.available + 4 + 2u * setup.size, index));
}

u16 DriverQueue::used_index() const {
  return std::atomic_ref(*reinterpret_cast<u16 *>(pc_.memory->host(setup.used + 2, 2))).load(std::memory_order_acquire);
}

std::optional<Used> DriverQueue::take_used() {
  if (used_index() == next_used_) return std::nullopt;
  Used used{};
  EXPECT_TRUE(pc_.memory->load(setup.used + 4 + 8u * (next_used_ % setup.size), used));
  set_used_event(++next_used_);
  return used;
}

std::optional<Used> DriverQueue::wait_used(std::chrono::milliseconds patience) {
  const auto end = std::chrono::steady_clock::now() + patience;
  for (;;) {
    if (auto used = take_used()) return used;
    if (std::chrono::steady_clock::now() > end) return std::nullopt;
    std::this_thread::sleep_for(100us);
  }
}

GuestDriver::GuestDriver(Pc &pc_in) : pc(pc_in) {
  EXPECT_EQ(pc.config_read(0, 2), 0x1af4u);
  pc.config_write(4, 2, 6); // memory space, bus master
  for (unsigned at = pc.config_read(0x34, 1); at != 0; at = pc.config_read(at + 1, 1)) {
    if (pc.config_read(at, 1) == 0x11) msix_ = at;
    if (pc.config_read(at, 1) != 9) continue;
    const unsigned type = pc.config_read(at + 3, 1);
    structures_[type] = {pc.config_read(at + 4, 1), pc.config_read(at + 8, 4)};
    if (type == kNotifyCfg) notify_multiplier_ = pc.config_read(at + 16, 4);
    if (type == kPciCfg) window_ = at;
  }
  EXPECT_TRUE(structures_.contains(kCommonCfg) && structures_.contains(kNotifyCfg) && structures_.contains(kIsrCfg));
}

Gpa GuestDriver::structure(unsigned type) {
  const auto [bar, offset] = structures_.at(type);
  return Gpa((pc.config_read(0x10 + 4 * bar, 4) & ~0xfu) + u64{offset});
}

u64 GuestDriver::common(unsigned offset, unsigned size) {
  return pc.bus.mmio_read(structure(kCommonCfg) + offset, size);
}
void GuestDriver::set_common(unsigned offset, unsigned size, u64 value) {
  pc.bus.mmio_write(structure(kCommonCfg) + offset, size, value);
}
u64 GuestDriver::device_config(unsigned offset, unsigned size) {
  return pc.bus.mmio_read(structure(kDeviceCfg) + offset, size);
}
u8 GuestDriver::isr() { return static_cast<u8>(pc.bus.mmio_read(structure(kIsrCfg), 1)); }
u8 GuestDriver::status() { return static_cast<u8>(common(0x14, 1)); }

u64 GuestDriver::offered() {
  set_common(0, 4, 0);
  const u64 low = common(4, 4);
  set_common(0, 4, 1);
  return low | common(4, 4) << 32;
}

bool GuestDriver::negotiate(u64 features) {
  set_common(0x14, 1, kAcknowledge);
  set_common(0x14, 1, kAcknowledge | kDriver);
  for (u64 half = 0; half < 2; ++half) {
    set_common(8, 4, half);
    set_common(12, 4, features >> half * 32 & 0xffff'ffff);
  }
  set_common(0x14, 1, kAcknowledge | kDriver | kFeaturesOk);
  features_ = features;
  return status() & kFeaturesOk;
}

void GuestDriver::enable_msix() {
  const u64 table = pc.config_read(0x10 + 4 * VirtioPci::kMsixBar, 4) & ~0xfu;
  const unsigned vectors = (pc.config_read(msix_ + 2, 2) & 0x7ff) + 1;
  for (unsigned v = 0; v < vectors; ++v) {
    pc.bus.mmio_write(Gpa(table + 16 * v), 4, 0xfee00000);
    pc.bus.mmio_write(Gpa(table + 16 * v + 4), 4, 0);
    pc.bus.mmio_write(Gpa(table + 16 * v + 8), 4, kMessage + v);
    pc.bus.mmio_write(Gpa(table + 16 * v + 12), 4, 0);
  }
  pc.config_write(msix_ + 2, 2, 0x8000);
  set_common(0x10, 2, 0);
  EXPECT_EQ(common(0x10, 2), 0u);
  msix_on_ = true;
}

void GuestDriver::mask_vector(unsigned vector, bool masked) {
  const u64 table = pc.config_read(0x10 + 4 * VirtioPci::kMsixBar, 4) & ~0xfu;
  pc.bus.mmio_write(Gpa(table + 16 * vector + 12), 4, masked);
}

DriverQueue &GuestDriver::add_queue(u16 index, u16 size) {
  set_common(0x16, 2, index);
  if (size == 0) size = static_cast<u16>(common(0x18, 2));
  auto &q = *(queues_[index] = std::make_unique<DriverQueue>(pc, size, features_ & kRingEventIdx));
  set_common(0x18, 2, size);
  const std::pair<unsigned, Gpa> areas[] = {
      {0x20, q.setup.descriptors}, {0x28, q.setup.available}, {0x30, q.setup.used}};
  for (const auto &[offset, at] : areas) {
    set_common(offset, 4, at.value & 0xffff'ffff);
    set_common(offset + 4, 4, at.value >> 32);
  }
  if (msix_on_) set_common(0x1a, 2, index + 1u);
  set_common(0x1c, 2, 1);
  return q;
}

void GuestDriver::driver_ok() { set_common(0x14, 1, kAcknowledge | kDriver | kFeaturesOk | kDriverOk); }

bool GuestDriver::start(u64 features, u16 queues, bool msix) {
  if (!negotiate(features)) return false;
  if (msix) enable_msix();
  for (u16 q = 0; q < queues; ++q) add_queue(q);
  driver_ok();
  return !(status() & kNeedsReset);
}

void GuestDriver::reset() {
  set_common(0x14, 1, 0);
  queues_.clear();
}

Gpa GuestDriver::doorbell(u16 index) {
  set_common(0x16, 2, index);
  return structure(kNotifyCfg) + common(0x1e, 2) * notify_multiplier_;
}

void GuestDriver::kick(u16 index) { pc.bus.mmio_write(doorbell(index), 2, index); }

std::optional<u32> GuestDriver::request(u16 index, std::span<const Piece> pieces, bool indirect) {
  const u16 head = queue(index).add(pieces, indirect);
  kick(index);
  const auto used = queue(index).wait_used();
  if (!used) return std::nullopt;
  EXPECT_EQ(used->id, head);
  return used->length;
}

} // namespace abyme::virtio::test
