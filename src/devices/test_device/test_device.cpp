#include "devices/test_device/test_device.hpp"
#include <cstring>

namespace abyme {
namespace {

constexpr u16 kValuePort = 0xe0, kFlushPort = 0xe4, kBytePort = 0xe8, kLinePort = 0x2000;

} // namespace

TestDevice::TestDevice(Bus &bus, const std::array<IrqLine *, kLines> &lines)
    : bus_(bus), lines_(lines), value_ports_(*this, &TestDevice::read_value, &TestDevice::write_value),
      flush_port_(*this, &TestDevice::read_flush, &TestDevice::write_flush),
      line_ports_(*this, &TestDevice::read_line, &TestDevice::write_line),
      memory_(*this, &TestDevice::read_memory, &TestDevice::write_memory) {
  bus_.add_ports(kValuePort, 4, value_ports_);
  bus_.add_ports(kFlushPort, 4, flush_port_);
  bus_.add_ports(kBytePort, 4, value_ports_);
  bus_.add_ports(kLinePort, kLines, line_ports_);
  bus_.add_mmio(kMemory, kMemorySize, memory_);
}

TestDevice::~TestDevice() {
  bus_.remove_ports(kValuePort, value_ports_);
  bus_.remove_ports(kFlushPort, flush_port_);
  bus_.remove_ports(kBytePort, value_ports_);
  bus_.remove_ports(kLinePort, line_ports_);
  bus_.remove_mmio(kMemory, memory_);
}

void TestDevice::reset() { restore(State{}); }

void TestDevice::restore(const State &state) {
  s_ = state;
  s_.memory.resize(kMemorySize);
  for (unsigned i = 0; i < kLines; ++i) lines_[i]->set(s_.lines >> i & 1);
}

void TestDevice::write_value(u64 offset, u8 value) {
  const unsigned shift = (offset & 3) * 8;
  s_.value = (s_.value & ~(0xffu << shift)) | u32{value} << shift;
}

// There it makes the host drop its mapping of the page, which no guest can see but in the time that the next access
// takes: here, nothing.
u64 TestDevice::read_flush(u64, unsigned) { return 0; }
void TestDevice::write_flush(u64, unsigned, u64) {}

u64 TestDevice::read_line(u64, unsigned) { return 0; }

void TestDevice::write_line(u64 offset, unsigned, u64 value) {
  const bool level = value != 0;
  s_.lines = (s_.lines & ~(1u << offset)) | u32{level} << offset;
  lines_[offset]->set(level);
}

u64 TestDevice::read_memory(u64 offset, unsigned size) {
  u64 value = 0;
  std::memcpy(&value, &s_.memory[offset], size);
  return value;
}

void TestDevice::write_memory(u64 offset, unsigned size, u64 value) { std::memcpy(&s_.memory[offset], &value, size); }

} // namespace abyme
