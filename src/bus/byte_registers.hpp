#pragma once
#include "bus/device.hpp"

namespace abyme {

// A device whose registers are single bytes, as on ISA: a wider access is one to each byte in turn, lowest first.
class ByteRegisters : public RegisterBlock {
public:
  [[nodiscard]] u64 read(u64 offset, unsigned size) final {
    u64 value = 0;
    for (unsigned i = 0; i < size; ++i) value |= u64{read_byte(offset + i)} << i * 8;
    return value;
  }
  void write(u64 offset, unsigned size, u64 value) final {
    for (unsigned i = 0; i < size; ++i) write_byte(offset + i, static_cast<u8>(value >> i * 8));
  }

protected:
  [[nodiscard]] virtual u8 read_byte(u64 offset) = 0;
  virtual void write_byte(u64 offset, u8 value) = 0;
};

// One of several register blocks of a device: sends accesses to two of its member functions.
template <class Device> class MemberBlock final : public RegisterBlock {
public:
  using Read = u64 (Device::*)(u64 offset, unsigned size);
  using Write = void (Device::*)(u64 offset, unsigned size, u64 value);
  MemberBlock(Device &device, Read read, Write write) : device_(device), read_(read), write_(write) {}
  [[nodiscard]] u64 read(u64 offset, unsigned size) override { return (device_.*read_)(offset, size); }
  void write(u64 offset, unsigned size, u64 value) override { (device_.*write_)(offset, size, value); }

private:
  Device &device_;
  Read read_;
  Write write_;
};

// The same for blocks of single-byte registers.
template <class Device> class MemberBytes final : public ByteRegisters {
public:
  using Read = u8 (Device::*)(u64 offset);
  using Write = void (Device::*)(u64 offset, u8 value);
  MemberBytes(Device &device, Read read, Write write) : device_(device), read_(read), write_(write) {}

private:
  [[nodiscard]] u8 read_byte(u64 offset) override { return (device_.*read_)(offset); }
  void write_byte(u64 offset, u8 value) override { (device_.*write_)(offset, value); }
  Device &device_;
  Read read_;
  Write write_;
};

} // namespace abyme
