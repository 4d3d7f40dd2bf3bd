#include "soft/mmu/access.hpp"
#include "soft/system/instructions.hpp"
#include <cstring>

namespace abyme::soft::system {

u64 read_register(const Cpu &cpu, u8 offset, unsigned size) {
  u64 value = 0;
  std::memcpy(&value, reinterpret_cast<const u8 *>(cpu.gpr) + offset, size);
  return value;
}

void write_register(Cpu &cpu, u8 offset, unsigned size, u64 value) {
  if (size == 4) { // clears the upper half
    size = 8;
    value = static_cast<u32>(value);
  }
  std::memcpy(reinterpret_cast<u8 *>(cpu.gpr) + offset, &value, size);
}

bool read_rm(Cpu &cpu, const Op &op, unsigned size, u64 &value) {
  value = 0;
  if (op.flags & kOpMemory) return read_operand(cpu, op, &value, size);
  value = read_register(cpu, op.rm, size);
  return true;
}

bool write_rm(Cpu &cpu, const Op &op, unsigned size, u64 value) {
  if (op.flags & kOpMemory) return write_operand(cpu, op, &value, size);
  write_register(cpu, op.rm, size, value);
  return true;
}

} // namespace abyme::soft::system
