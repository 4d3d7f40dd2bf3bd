#pragma once
#include "bus/bus.hpp"
#include "bus/byte_registers.hpp"

namespace abyme {

// QEMU's pc-testdev, which existing x86 test kernels use: ports 0xe0-0xe3 and 0xe8-0xeb keep what is written to them,
// 0xe4 asks to forget how a page is mapped, a write to 0x2000 + n drives interrupt line n, and 64 KiB at 0xff000000 are
// plain bytes behind an MMIO exit.
class TestDevice {
public:
  static constexpr unsigned kLines = 24;
  static constexpr Gpa kMemory{0xff00'0000};
  static constexpr u64 kMemorySize = 0x10000;
  struct State {
    u32 value = 0;
    u32 lines = 0;
    std::vector<u8> memory = std::vector<u8>(kMemorySize);
    bool operator==(const State &) const = default;
  };

  // `lines[n]` is what port 0x2000 + n drives: ISA IRQ n below 16, else GSI n.
  TestDevice(Bus &bus, const std::array<IrqLine *, kLines> &lines);
  ~TestDevice();
  TestDevice(const TestDevice &) = delete;
  TestDevice &operator=(const TestDevice &) = delete;

  void reset();
  [[nodiscard]] const State &save() const { return s_; }
  void restore(const State &state);

private:
  u8 read_value(u64 offset) { return static_cast<u8>(s_.value >> (offset & 3) * 8); }
  void write_value(u64 offset, u8 value);
  u64 read_flush(u64 offset, unsigned size);
  void write_flush(u64 offset, unsigned size, u64 value);
  u64 read_line(u64 offset, unsigned size);
  void write_line(u64 offset, unsigned size, u64 value);
  u64 read_memory(u64 offset, unsigned size);
  void write_memory(u64 offset, unsigned size, u64 value);

  Bus &bus_;
  const std::array<IrqLine *, kLines> lines_;
  State s_;
  MemberBytes<TestDevice> value_ports_;
  MemberBlock<TestDevice> flush_port_, line_ports_, memory_;
};

} // namespace abyme
