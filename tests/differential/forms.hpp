#pragma once
#include "random.hpp"
#include "x86/cpu_profile.hpp"
#include <Zydis/Zydis.h>
#include <optional>
#include <string>
#include <vector>

namespace abyme::differential {

// One encoding as fields, so that registers and operands can be varied.
struct Encoding {
  u8 prefixes[3] = {};
  u8 prefix_count = 0;
  bool compatible = false, vex = false, w = false, l = false, memory = false;
  u8 map = 0; // 0: one byte, 1: 0F, 2: 0F38, 3: 0F3A
  u8 pp = 0;  // VEX
  u8 opcode = 0, reg = 0, rm = 0;
};

// A mnemonic with kinds of operands: "vaddps ymm, ymm, m256".
struct Form {
  std::string name;
  Encoding encoding;
};

struct Decoded {
  ZydisDecodedInstruction instruction;
  ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
};

struct Instance {
  u8 bytes[16];
  u8 length;
  Decoded decoded;
};

// `compatible`: as 32-bit code.
[[nodiscard]] bool decode(const u8 *bytes, size_t size, bool compatible, Decoded &out);
[[nodiscard]] inline bool is_compatible(const Decoded &d) {
  return d.instruction.machine_mode == ZYDIS_MACHINE_MODE_LONG_COMPAT_32;
}
[[nodiscard]] std::string form_name(const Decoded &d);
// Every form of 64-bit user mode, and every general-purpose one of 32-bit code, that a CPU of this profile executes and
// that can be compared, by name.
[[nodiscard]] std::vector<Form> all_forms(const x86::CpuProfile &profile);
// The form with other registers, addressing, displacement and immediates.
[[nodiscard]] std::optional<Instance> vary(const Form &form, Random &random);

} // namespace abyme::differential
