#pragma once
#include "devices/virtio/served_device.hpp"
#include "devices/virtio_blk/disk_file.hpp"

namespace abyme::virtio {

struct BlkConfig {
  std::string path;
  bool read_only = false;
  std::string serial = {}; // what GET_ID answers, at most 20 bytes
  u16 queue_size = 256;
};

// A disk (virtio 1.2 §5.2) with one request queue.
class Blk final : public ServedDevice {
public:
  [[nodiscard]] static Result<std::unique_ptr<Blk>> open(const BlkConfig &config);
  ~Blk() override { end_thread(); }

  [[nodiscard]] DeviceId id() const override { return DeviceId::Block; }
  [[nodiscard]] u64 features() override;
  [[nodiscard]] std::span<const u16> queue_sizes() const override { return {&queue_size_, 1}; }
  [[nodiscard]] u32 config_size() const override { return kConfigBytes; }
  void read_config(u32 offset, std::span<u8> to) override;
  void write_config(u32, std::span<const u8>) override {} // every field is read-only without CONFIG_WCE

  // The disk's size and whether it is read-only, so that a snapshot is not put onto another disk.
  struct State {
    u64 sectors = 0;
    u64 read_only = 0;
    bool operator==(const State &) const = default;
  };
  [[nodiscard]] std::vector<u8> save() override;
  [[nodiscard]] Result<void> load(std::span<const u8> state) override;

private:
  static constexpr u32 kConfigBytes = 0x3c; // struct virtio_blk_config up to write_zeroes_may_unmap and its padding
  struct Header {                           // virtio 1.2 §5.2.6
    u32 type;
    u32 reserved;
    u64 sector;
  };
  struct Range { // struct virtio_blk_discard_write_zeroes
    u64 sector;
    u32 sectors;
    u32 flags;
  };
  enum class Status : u8 { Ok = 0, IoError = 1, Unsupported = 2 };
  struct Answer {
    Status status = Status::Ok;
    u64 written = 0; // bytes in front of the status byte
  };

  Blk(DiskFile disk, const BlkConfig &config);
  [[nodiscard]] std::expected<Served, QueueFault> serve(u16 index, Queue &queue) override;
  void after_serve() override {}
  void stopped() override {}
  [[nodiscard]] Answer perform(const Header &header, const Chain &chain);
  [[nodiscard]] Answer read(const Header &header, const Chain &chain);
  [[nodiscard]] Answer write(const Header &header, const Chain &chain);
  [[nodiscard]] Answer flush();
  [[nodiscard]] Answer get_id(const Chain &chain);
  [[nodiscard]] Answer change_ranges(const Header &header, const Chain &chain);
  [[nodiscard]] Answer change_range(u32 type, const Range &range);
  [[nodiscard]] Answer finish(std::string_view what, u64 sector, int error, u64 written);
  [[nodiscard]] bool inside(u64 sector, u64 bytes) const;

  DiskFile disk_;
  std::string serial_;
  u16 queue_size_;
  Chain chain_;            // under lock_; kept for its room
  unsigned io_errors_ = 0; // under lock_
};

} // namespace abyme::virtio
