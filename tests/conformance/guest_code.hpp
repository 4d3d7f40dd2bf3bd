#pragma once
#include "memory/guest_memory.hpp"
#include <asmjit/x86.h>

namespace abyme::conformance {

namespace jit = asmjit::x86;

// A piece of guest code, written with AsmJit for the address at which it will lie.
class GuestCode {
public:
  explicit GuestCode(u64 base, asmjit::Arch arch = asmjit::Arch::kX64) : base_(base) {
    code_.init(asmjit::Environment(arch), base);
    code_.attach(&a);
  }
  // Where a bound label lies.
  [[nodiscard]] u64 address(const asmjit::Label &label) const { return base_ + code_.labelOffset(label); }
  [[nodiscard]] u64 base() const { return base_; }
  // False if the code is wrong or does not fit.
  [[nodiscard]] bool load(GuestMemory &memory) {
    using asmjit::kErrorOk;
    if (code_.flatten() != kErrorOk || code_.resolveUnresolvedLinks() != kErrorOk ||
        code_.relocateToBase(base_) != kErrorOk)
      return false;
    std::vector<u8> bytes(code_.codeSize());
    if (code_.copyFlattenedData(bytes.data(), bytes.size()) != kErrorOk) return false;
    return memory.write(Gpa(base_), bytes.data(), bytes.size());
  }

private:
  asmjit::CodeHolder code_;
  u64 base_;

public:
  jit::Assembler a; // after code_, to which it is attached
};

} // namespace abyme::conformance
