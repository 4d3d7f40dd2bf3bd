#pragma once
#include "soft/hostexec/plan.hpp"
#include "soft/hostexec/reencode.hpp"
#include <asmjit/x86.h>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>

namespace abyme::soft::hostexec {

// The stubs and plans of one vCPU. Stubs are written through one mapping and executed through another, so no page is
// ever both.
class Arena {
public:
  Arena();

  // The stub of this instruction, made once per distinct code. nullptr: no memory for code.
  [[nodiscard]] Stub stub(const ZydisDecodedInstruction &instruction, const ZydisDecodedOperand *operands,
                          bool general);
  [[nodiscard]] const Plan *keep(const Plan &plan) { return &plans_.emplace_back(plan); }

  [[nodiscard]] bool full() const { return code_bytes_ > kMaxCode || plans_.size() > kMaxPlans; }
  void clear();

private:
  static constexpr size_t kMaxCode = 4 << 20;
  static constexpr size_t kMaxPlans = 1 << 16;

  [[nodiscard]] Stub make(const ZydisDecodedInstruction &instruction, const ZydisDecodedOperand *operands,
                          const RegisterMap &map, const Encoded &code);

  std::unique_ptr<asmjit::JitRuntime> runtime_;
  std::unordered_map<std::string, Stub> stubs_;
  std::deque<Plan> plans_;
  size_t code_bytes_ = 0;
};

} // namespace abyme::soft::hostexec
