#include "devices/fw_cfg/fw_cfg.hpp"
#include <algorithm>
#include <bit>

namespace abyme {
namespace {

constexpr u16 kDmaPort = FwCfg::kPort + 4;
constexpr u16 kFirstFile = 0x20;
constexpr size_t kMostFiles = 0x400;
constexpr u64 kDmaSignature = 0x51454d5520434647; // "QEMU CFG"
constexpr u32 kHasPorts = 1, kHasDma = 2;

// The DMA descriptor, all of it big-endian.
struct Descriptor {
  u32 control;
  u32 length;
  u64 address;
};
constexpr u32 kDmaError = 1 << 0, kDmaRead = 1 << 1, kDmaSkip = 1 << 2, kDmaSelect = 1 << 3, kDmaWrite = 1 << 4;

constexpr u32 from_big(u32 value) { return __builtin_bswap32(value); }
constexpr u64 from_big(u64 value) { return __builtin_bswap64(value); }

void append_big(std::vector<u8> &to, u32 value, unsigned bytes) {
  for (unsigned i = bytes; i-- > 0;) to.push_back(static_cast<u8>(value >> i * 8));
}

} // namespace

FwCfg::FwCfg(Bus &bus, GuestMemory &memory)
    : bus_(bus), memory_(memory), selector_(*this, &FwCfg::read_selector, &FwCfg::write_selector),
      dma_(*this, &FwCfg::read_dma, &FwCfg::write_dma) {
  items_[kSignature] = {'Q', 'E', 'M', 'U'};
  add_number(kInterface, kHasPorts | kHasDma, 4);
  lay_out_files();
  bus_.add_ports(kPort, 2, selector_);
  bus_.add_ports(kDmaPort, 8, dma_);
}

FwCfg::~FwCfg() {
  bus_.remove_ports(kPort, selector_);
  bus_.remove_ports(kDmaPort, dma_);
}

void FwCfg::add_number(u16 key, u64 value, unsigned size) {
  std::vector<u8> bytes(size);
  for (unsigned i = 0; i < size; ++i) bytes[i] = static_cast<u8>(value >> i * 8);
  add(key, std::move(bytes));
}

Result<void> FwCfg::add_file(const std::string &name, std::vector<u8> content) {
  if (name.empty() || name.size() > kLongestName)
    return fail("fw_cfg file '{}': its name has {} characters; it must have 1 to {}", name, name.size(), kLongestName);
  if (files_.contains(name)) return fail("fw_cfg file '{}': there is one of this name already", name);
  if (files_.size() == kMostFiles) return fail("fw_cfg file '{}': there is room for {} files only", name, kMostFiles);
  files_[name] = std::move(content);
  lay_out_files();
  return {};
}

// The directory: a count, then size, key and name of each file, in the order of their names.
void FwCfg::lay_out_files() {
  std::vector<u8> directory;
  append_big(directory, static_cast<u32>(files_.size()), 4);
  u16 key = kFirstFile;
  for (const auto &[name, content] : files_) {
    append_big(directory, static_cast<u32>(content.size()), 4);
    append_big(directory, key, 2);
    append_big(directory, 0, 2);
    std::string padded = name;
    padded.resize(kLongestName + 1);
    directory.insert(directory.end(), padded.begin(), padded.end());
    items_[key++] = content;
  }
  items_[kDirectory] = std::move(directory);
}

void FwCfg::select(u16 key) {
  s_.selected = key;
  s_.offset = 0;
}

// Past its end, and where there is none, an item reads as zeroes.
u8 FwCfg::next_byte() {
  const auto item = items_.find(s_.selected);
  if (item == items_.end() || s_.offset >= item->second.size()) return 0;
  return item->second[s_.offset++];
}

u64 FwCfg::read_selector(u64 offset, unsigned size) { return offset == 1 && size == 1 ? next_byte() : 0; }

// Port 0x511 took writes to items once; none here can be written.
void FwCfg::write_selector(u64 offset, unsigned, u64 value) {
  if (offset == 0) select(static_cast<u16>(value));
}

u64 FwCfg::read_dma(u64 offset, unsigned size) {
  u64 value = 0;
  for (unsigned i = 0; i < size; ++i) value |= (kDmaSignature >> (7 - (offset + i)) * 8 & 0xff) << i * 8;
  return value;
}

// The address is written as two big-endian dwords; the lower one starts the transfer.
void FwCfg::write_dma(u64 offset, unsigned size, u64 value) {
  if (size != 4 || offset & 3) return;
  const u32 half = from_big(static_cast<u32>(value));
  if (offset == 0) {
    s_.dma_high = half;
    return;
  }
  run_dma(Gpa(u64{s_.dma_high} << 32 | half));
  s_.dma_high = 0;
}

bool FwCfg::copy_to_guest(Gpa to, u32 length) {
  static constexpr std::array<u8, kPageSize> kZeroes{};
  const auto found = items_.find(s_.selected);
  const std::span<const u8> item = found == items_.end() ? std::span<const u8>{} : std::span<const u8>(found->second);
  while (length > 0) {
    const std::span<const u8> left = item.subspan(std::min<u64>(s_.offset, item.size()));
    const std::span<const u8> from = left.empty() ? std::span<const u8>(kZeroes) : left;
    const u32 size = static_cast<u32>(std::min<u64>({length, from.size(), kPageSize}));
    if (!memory_.write(to, from.data(), size)) return false;
    if (!left.empty()) s_.offset += size;
    to = to + size;
    length -= size;
  }
  return true;
}

// A descriptor outside of RAM has nowhere to report to, and nothing is done.
void FwCfg::run_dma(Gpa descriptor) {
  Descriptor raw{};
  if (!memory_.load(descriptor, raw)) return;
  const u32 control = from_big(raw.control), length = from_big(raw.length);
  if (control & kDmaSelect) select(static_cast<u16>(control >> 16));
  bool failed = false;
  if (control & kDmaRead)
    failed = !copy_to_guest(Gpa(from_big(raw.address)), length);
  else if (control & kDmaWrite)
    failed = true;
  else if (control & kDmaSkip)
    s_.offset += length;
  const u32 result = from_big(failed ? kDmaError : 0u);
  (void)memory_.store(descriptor, result); // where it was just read from
}

} // namespace abyme
