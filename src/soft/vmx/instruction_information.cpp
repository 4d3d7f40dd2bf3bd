// VM-exit instruction information: SDM 3C §28.2.5, tables 28-8 to 28-15.
#include "soft/vmx/instruction_information.hpp"
#include "soft/mmu/access.hpp"
#include "soft/vmx/exit.hpp"

namespace abyme::soft::vmx {
namespace {

constexpr u32 kRegisterOperand = 1 << 10, kNoIndex = 1 << 22, kNoBase = 1 << 27;

[[nodiscard]] u32 address_size(const Op &op) { return op.address_size == 2 ? 0 : op.address_size == 4 ? 1 : 2; }

// Op::segment tells flat segments apart no more: it is the default one then.
[[nodiscard]] u32 segment(const Op &op) {
  if (op.segment != Op::kFlat) return op.segment;
  const bool stack = register_number(op.base) == x86::RSP || register_number(op.base) == x86::RBP;
  return stack ? x86::SS : x86::DS;
}

[[nodiscard]] bool is_register(u8 slot) { return slot < Op::kZeroSlot; }

} // namespace

u64 displacement(const Cpu &cpu, const Op &op) {
  if (!(op.flags & kOpMemory)) return 0;
  return op.base == Op::kRipSlot ? effective_address(cpu, op) : static_cast<u64>(static_cast<i64>(op.disp));
}

u32 memory_information(const Op &op) {
  if (!(op.flags & kOpMemory)) return kRegisterOperand | register_number(op.rm) << 3;
  u32 information = (op.scale & 3) | address_size(op) << 7 | segment(op) << 15;
  information |= is_register(op.index) ? register_number(op.index) << 18 : kNoIndex;
  information |= is_register(op.base) ? register_number(op.base) << 23 : kNoBase;
  return information;
}

u32 with_second_register(const Op &op) { return memory_information(op) | register_number(op.reg) << 28; }

u32 table_information(const Op &op, u32 identity) {
  return memory_information(op) | (op.size == 2 ? 0u : 1u << 11) | identity << 28;
}

u32 selector_information(const Op &op, u32 identity) { return memory_information(op) | identity << 28; }

u32 random_information(const Op &op, u8 destination) {
  const u32 size = op.size == 2 ? 0 : op.size == 4 ? 1 : 2;
  return static_cast<u32>(register_number(destination)) << 3 | size << 11;
}

u32 string_io_information(const Op &op) { return address_size(op) << 7 | segment(op) << 15; }

} // namespace abyme::soft::vmx
