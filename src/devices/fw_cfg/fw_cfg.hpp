#pragma once
#include "bus/bus.hpp"
#include "bus/byte_registers.hpp"
#include "memory/guest_memory.hpp"
#include <map>
#include <string>
#include <vector>

namespace abyme {

// QEMU's firmware configuration device, at ports 0x510 to 0x51b with its DMA interface (QEMU docs/specs/fw_cfg):
// numbered items and named files that the machine leaves for its guest, which can only read them.
class FwCfg {
public:
  static constexpr u16 kPort = 0x510;
  static constexpr size_t kLongestName = 55;
  // Items whose numbers QEMU fixed.
  enum Key : u16 {
    kSignature = 0x00,
    kInterface = 0x01,
    kRamSize = 0x03,
    kCpus = 0x05,
    kMaxCpus = 0x0f,
    kDirectory = 0x19
  };
  struct State { // the items themselves are the machine's configuration
    u16 selected = 0;
    u64 offset = 0;
    u32 dma_high = 0;
    bool operator==(const State &) const = default;
  };

  FwCfg(Bus &bus, GuestMemory &memory);
  ~FwCfg();
  FwCfg(const FwCfg &) = delete;
  FwCfg &operator=(const FwCfg &) = delete;

  // Before any vCPU runs. Numbers are little-endian, of `size` bytes.
  void add(u16 key, std::vector<u8> content) { items_[key] = std::move(content); }
  void add_number(u16 key, u64 value, unsigned size);
  // Fails for a name that is empty, too long or there already.
  [[nodiscard]] Result<void> add_file(const std::string &name, std::vector<u8> content);

  void reset() { s_ = {}; }
  [[nodiscard]] State save() const { return s_; }
  void restore(const State &state) { s_ = state; }

private:
  u64 read_selector(u64 offset, unsigned size);
  void write_selector(u64 offset, unsigned size, u64 value);
  u64 read_dma(u64 offset, unsigned size);
  void write_dma(u64 offset, unsigned size, u64 value);
  [[nodiscard]] u8 next_byte();
  void select(u16 key);
  void lay_out_files();
  void run_dma(Gpa descriptor);
  [[nodiscard]] bool copy_to_guest(Gpa to, u32 length);

  Bus &bus_;
  GuestMemory &memory_;
  std::map<u16, std::vector<u8>> items_;
  std::map<std::string, std::vector<u8>> files_; // by name: the order of the directory
  State s_;
  MemberBlock<FwCfg> selector_, dma_;
};

} // namespace abyme
