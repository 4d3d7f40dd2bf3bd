#include "soft/system/mtrr.hpp"
#include "x86/msr.hpp"

namespace abyme::soft::system {

using namespace x86;

namespace {

// SDM 3A table 12-2: UC, WC, WT, WP, WB; a PAT entry may also be UC- (7).
bool valid_type(u64 type) { return type == 0 || type == 1 || (type >= 4 && type <= 6); }
bool valid_pat_type(u64 type) { return valid_type(type) || type == 7; }

template <class Valid> bool all_bytes(u64 value, Valid valid) {
  for (unsigned shift = 0; shift < 64; shift += 8)
    if (!valid(value >> shift & 0xFF)) return false;
  return true;
}

unsigned fixed_index(u32 number) {
  if (number == msr::IA32_MTRR_FIX64K_00000) return 0;
  if (number <= msr::IA32_MTRR_FIX16K_A0000) return 1 + number - msr::IA32_MTRR_FIX16K_80000;
  return 3 + number - msr::IA32_MTRR_FIX4K_C0000;
}

bool is_mask(u32 number) { return number & 1; }
unsigned range(u32 number) { return (number - msr::IA32_MTRR_PHYSBASE0) / 2; }

} // namespace

bool read_mtrr_variable(const Cpu &cpu, u32 number, u64 &value) {
  value = is_mask(number) ? cpu.msr.mtrr_mask[range(number)] : cpu.msr.mtrr_base[range(number)];
  return true;
}

bool write_mtrr_variable(Cpu &cpu, u32 number, u64 value) {
  u64 reserved = ~0ull << cpu.profile->physical_bits | (is_mask(number) ? 0x7FF : 0xF00);
  if (value & reserved || (!is_mask(number) && !valid_type(value & 0xFF))) return false;
  (is_mask(number) ? cpu.msr.mtrr_mask : cpu.msr.mtrr_base)[range(number)] = value;
  return true;
}

bool read_mtrr_fixed(const Cpu &cpu, u32 number, u64 &value) {
  value = cpu.msr.mtrr_fixed[fixed_index(number)];
  return true;
}

bool write_mtrr_fixed(Cpu &cpu, u32 number, u64 value) {
  if (!all_bytes(value, valid_type)) return false;
  cpu.msr.mtrr_fixed[fixed_index(number)] = value;
  return true;
}

bool write_mtrr_def_type(Cpu &cpu, u32, u64 value) {
  constexpr u64 kEnables = 3 << 10;
  if (value & ~(kEnables | 0xFF) || !valid_type(value & 0xFF)) return false;
  cpu.msr.mtrr_def_type = value;
  return true;
}

bool write_pat(Cpu &cpu, u32, u64 value) {
  if (!all_bytes(value, valid_pat_type)) return false;
  cpu.msr.pat = value;
  return true;
}

} // namespace abyme::soft::system
