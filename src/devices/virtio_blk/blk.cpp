#include "devices/virtio_blk/blk.hpp"
#include "base/log.hpp"
#include "devices/virtio/state_bytes.hpp"
#include <algorithm>
#include <array>
#include <cstddef>

namespace abyme::virtio {
namespace {

// virtio 1.2 §5.2.3
constexpr u64 kSegMax = 1ull << 2, kReadOnly = 1ull << 5, kBlkSize = 1ull << 6, kFlush = 1ull << 9,
              kDiscard = 1ull << 13, kWriteZeroes = 1ull << 14;
// virtio 1.2 §5.2.6
enum RequestType : u32 { In = 0, Out = 1, Flush = 4, GetId = 8, Discard = 11, WriteZeroes = 13 };
constexpr u32 kUnmap = 1;

constexpr u32 kMaxRangeSectors = 1u << 22; // 2 GiB: bounds the time that one request takes
constexpr u32 kMaxRanges = 16;
constexpr std::size_t kIdBytes = 20;
constexpr unsigned kErrorsLogged = 10; // a failing disk must not fill the log

// struct virtio_blk_config (virtio 1.2 §5.2.4)
struct ConfigSpace {
  u64 capacity; // in sectors
  u32 size_max;
  u32 seg_max;
  u16 cylinders;
  u8 heads;
  u8 sectors;
  u32 blk_size;
  u8 physical_block_exp;
  u8 alignment_offset;
  u16 min_io_size;
  u32 opt_io_size;
  u8 writeback;
  u8 unused0;
  u16 num_queues;
  u32 max_discard_sectors;
  u32 max_discard_seg;
  u32 discard_sector_alignment;
  u32 max_write_zeroes_sectors;
  u32 max_write_zeroes_seg;
  u8 write_zeroes_may_unmap;
  u8 unused1[3];
};
static_assert(offsetof(ConfigSpace, max_discard_sectors) == 0x24 &&
              offsetof(ConfigSpace, write_zeroes_may_unmap) == 0x38);

} // namespace

Result<std::unique_ptr<Blk>> Blk::open(const BlkConfig &config) {
  auto disk = DiskFile::open(config.path, config.read_only);
  if (!disk) return std::unexpected(disk.error());
  return std::unique_ptr<Blk>(new Blk(std::move(*disk), config));
}

Blk::Blk(DiskFile disk, const BlkConfig &config)
    : disk_(std::move(disk)), serial_(config.serial.substr(0, kIdBytes)), queue_size_(config.queue_size) {}

u64 Blk::features() {
  const u64 always = kRingFeatures | kSegMax | kBlkSize | kFlush;
  return disk_.read_only() ? always | kReadOnly : always | kDiscard | kWriteZeroes;
}

void Blk::read_config(u32 offset, std::span<u8> to) {
  ConfigSpace space{};
  static_assert(sizeof space >= kConfigBytes);
  space.capacity = disk_.size() / kSectorSize;
  space.seg_max = queue_size_ - 2u; // header and status take one descriptor each
  space.blk_size = kSectorSize;
  space.num_queues = 1;
  if (!disk_.read_only()) {
    space.max_discard_sectors = space.max_write_zeroes_sectors = kMaxRangeSectors;
    space.max_discard_seg = space.max_write_zeroes_seg = kMaxRanges;
    space.discard_sector_alignment = 1;
    space.write_zeroes_may_unmap = 1;
  }
  std::memcpy(to.data(), reinterpret_cast<const u8 *>(&space) + offset, to.size());
}

std::expected<Blk::Served, QueueFault> Blk::serve(u16, Queue &queue) {
  const auto popped = queue.pop(chain_);
  if (!popped) return std::unexpected(popped.error());
  if (!*popped) return Served::Nothing;
  Header header;
  const u64 room = chain_.writable_size();
  if (copy_out(chain_.readable, 0, std::span(reinterpret_cast<u8 *>(&header), sizeof header)) != sizeof header ||
      room == 0)
    return std::unexpected(QueueFault::NoRoom);
  const Answer answer = perform(header, chain_);
  const u8 status = static_cast<u8>(answer.status);
  (void)copy_in(transport().memory(), chain_.writable, room - 1, {&status, 1}); // inside of it, as just measured
  queue.push(chain_.head, static_cast<u32>(answer.written + 1 == room ? room : answer.written));
  return Served::Request;
}

Blk::Answer Blk::perform(const Header &header, const Chain &chain) {
  switch (header.type) {
  case In: return read(header, chain);
  case Out: return write(header, chain);
  case Flush: return flush();
  case GetId: return get_id(chain);
  case Discard:
  case WriteZeroes: return change_ranges(header, chain);
  default: return {Status::Unsupported};
  }
}

bool Blk::inside(u64 sector, u64 bytes) const {
  const u64 sectors = disk_.size() / kSectorSize;
  return bytes % kSectorSize == 0 && sector <= sectors && bytes / kSectorSize <= sectors - sector;
}

Blk::Answer Blk::finish(std::string_view what, u64 sector, int error, u64 written) {
  if (error == 0) return {Status::Ok, written};
  if (io_errors_++ < kErrorsLogged)
    log::error("disk {}: {} at sector {}: {}{}", disk_.path(), what, sector, std::strerror(error),
               io_errors_ == kErrorsLogged ? "; further errors of this disk are not shown" : "");
  return {Status::IoError};
}

Blk::Answer Blk::read(const Header &header, const Chain &chain) {
  const u64 size = chain.writable_size() - 1;
  if (!inside(header.sector, size)) return {Status::IoError};
  const auto data = slice(chain.writable, 0, size);
  const int error = disk_.read(header.sector * kSectorSize, data);
  for (const Buffer &b : data) transport().memory().note_written(b.at, b.size);
  return finish("reading", header.sector, error, size);
}

Blk::Answer Blk::write(const Header &header, const Chain &chain) {
  const u64 size = chain.readable_size() - sizeof(Header);
  if (disk_.read_only() || !inside(header.sector, size)) return {Status::IoError};
  const auto data = slice(chain.readable, sizeof(Header), size);
  int error = disk_.write(header.sector * kSectorSize, data);
  // A driver that cannot flush takes what is done for durable (virtio 1.2 §5.2.6.2).
  if (error == 0 && !(negotiated() & kFlush)) error = disk_.flush();
  return finish("writing", header.sector, error, 0);
}

Blk::Answer Blk::flush() { return disk_.read_only() ? Answer{} : finish("flushing", 0, disk_.flush(), 0); }

Blk::Answer Blk::get_id(const Chain &chain) {
  std::array<u8, kIdBytes> id{};
  std::ranges::copy(serial_, id.begin());
  if (chain.writable_size() < kIdBytes + 1) return {Status::IoError};
  return {Status::Ok, copy_in(transport().memory(), chain.writable, 0, id)};
}

Blk::Answer Blk::change_ranges(const Header &header, const Chain &chain) {
  const u64 bytes = chain.readable_size() - sizeof(Header);
  const u64 count = bytes / sizeof(Range);
  if (!(features() & (header.type == Discard ? kDiscard : kWriteZeroes))) return {Status::Unsupported};
  if (bytes % sizeof(Range) != 0 || count == 0 || count > kMaxRanges) return {Status::IoError};
  for (u64 i = 0; i < count; ++i) {
    Range range;
    (void)copy_out(chain.readable, sizeof(Header) + i * sizeof range,
                   std::span(reinterpret_cast<u8 *>(&range), sizeof range));
    if (const Answer answer = change_range(header.type, range); answer.status != Status::Ok) return answer;
  }
  return {};
}

// virtio 1.2 §5.2.6.2: flags that are unknown, or not for discard, are unsupported.
Blk::Answer Blk::change_range(u32 type, const Range &range) {
  const u64 offset = range.sector * kSectorSize, size = u64{range.sectors} * kSectorSize;
  if (range.flags & ~(type == WriteZeroes ? kUnmap : 0)) return {Status::Unsupported};
  if (range.sectors == 0 || range.sectors > kMaxRangeSectors || !inside(range.sector, size)) return {Status::IoError};
  if (type == Discard) return finish("discarding", range.sector, disk_.discard(offset, size), 0);
  int error = disk_.write_zeroes(offset, size, range.flags & kUnmap);
  if (error == 0 && !(negotiated() & kFlush)) error = disk_.flush();
  return finish("writing zeroes", range.sector, error, 0);
}

std::vector<u8> Blk::save() { return to_bytes(State{disk_.size() / kSectorSize, disk_.read_only()}); }

Result<void> Blk::load(std::span<const u8> state) {
  const auto saved = from_bytes<State>(fmt::format("disk {}", disk_.path()), state);
  if (!saved) return std::unexpected(saved.error());
  const State own{disk_.size() / kSectorSize, disk_.read_only()};
  if (*saved == own) return {};
  return fail("disk {}: the saved state is of a disk of {} sectors{}, this one has {}{}", disk_.path(), saved->sectors,
              saved->read_only ? " (read-only)" : "", own.sectors, own.read_only ? " (read-only)" : "");
}

} // namespace abyme::virtio
