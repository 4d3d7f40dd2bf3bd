#include "conformance/test_vm.hpp"
#include <gmock/gmock.h>

// Exceptions in 64-bit mode: their vector, error code, and where they return to (SDM 3A §6.14, §6.15).
namespace abyme::conformance {
namespace {

using namespace x86;
using asmjit::Label;

constexpr u64 kUnmapped = 0x1'4000'0000; // beyond the 4 GiB that the page tables map

// Runs `fault`; the handler of `vector` leaves R8 = RIP, R9 = error code (or ~0), R10 = CR2, R11 = CS.
class Faulting {
public:
  Faulting(const EngineRow &row, u8 vector, bool has_error_code, const std::function<void(jit::Assembler &)> &fault)
      : vm(row) {
    GuestCode code(layout::kCode);
    const Label handler = code.a.newLabel(), at = code.a.newLabel();
    code.a.xor_(jit::eax, jit::eax);
    code.a.bind(at);
    fault(code.a);
    code.a.ud2();
    code.a.bind(handler);
    if (has_error_code)
      code.a.pop(jit::r9);
    else
      code.a.mov(jit::r9, -1);
    code.a.mov(jit::r8, jit::qword_ptr(jit::rsp));
    code.a.mov(jit::r11, jit::qword_ptr(jit::rsp, 8));
    code.a.mov(jit::r10, jit::cr2);
    code.a.out(layout::kDonePort, jit::al);
    vm.load(code);
    const auto start = vm.long_mode(layout::kCode);
    vm.set_gate(vector, code.address(handler));
    vm.engine().vcpu(0).set_state(start);
    EXPECT_TRUE(std::holds_alternative<Stopped>(vm.run()));
    state = vm.state();
    fault_at = code.address(at);
  }
  TestVm vm;
  CpuState state;
  u64 fault_at = 0;
};

constexpr u64 kNoErrorCode = ~0ull;

void expect_fault(const Faulting &f, u64 rip, u64 error_code) {
  EXPECT_EQ(f.state.gpr[R8], rip);
  EXPECT_EQ(f.state.gpr[R9], error_code);
  EXPECT_EQ(f.state.gpr[R11], layout::kCode64);
}

TEST_P(Conformance, InvalidOpcode) {
  const Faulting f(GetParam(), UD, false, [](auto &a) { a.ud2(); });
  expect_fault(f, f.fault_at, kNoErrorCode);
}

TEST_P(Conformance, DivideError) {
  const Faulting f(GetParam(), DE, false, [](auto &a) { a.div(jit::eax); });
  expect_fault(f, f.fault_at, kNoErrorCode);
}

TEST_P(Conformance, BreakpointReturnsBehindItself) {
  if (const auto why = limits(); !why.empty()) GTEST_SKIP() << why;
  const Faulting f(GetParam(), BP, false, [](auto &a) { a.int3(); });
  expect_fault(f, f.fault_at + 1, kNoErrorCode);
}

TEST_P(Conformance, GeneralProtectionOfANonCanonicalAddress) {
  const Faulting f(GetParam(), GP, true, [](auto &a) {
    a.mov(jit::rbx, 0x8000'0000'0000'0000);
    a.mov(jit::ecx, jit::dword_ptr(jit::rbx));
  });
  expect_fault(f, f.fault_at + 10, 0);
}

TEST_P(Conformance, GeneralProtectionNamesTheSelector) {
  const Faulting f(GetParam(), GP, true, [](auto &a) {
    a.mov(jit::eax, 0x88); // beyond the GDT's limit
    a.mov(jit::ds, jit::ax);
  });
  expect_fault(f, f.fault_at + 5, 0x88);
}

TEST_P(Conformance, GeneralProtectionOfAnUnknownMsr) {
  const Faulting f(GetParam(), GP, true, [](auto &a) {
    a.mov(jit::ecx, 0x4000'4321);
    a.rdmsr();
  });
  expect_fault(f, f.fault_at + 5, 0);
}

TEST_P(Conformance, PageFaultOfAReadOfAnAbsentPage) {
  const Faulting f(GetParam(), PF, true, [](auto &a) {
    a.mov(jit::rbx, kUnmapped + 0x123);
    a.mov(jit::ecx, jit::dword_ptr(jit::rbx));
  });
  expect_fault(f, f.fault_at + 10, 0);
  EXPECT_EQ(f.state.gpr[R10], kUnmapped + 0x123);
}

TEST_P(Conformance, PageFaultOfAWriteToAnAbsentPage) {
  const Faulting f(GetParam(), PF, true, [](auto &a) {
    a.mov(jit::rbx, kUnmapped);
    a.mov(jit::dword_ptr(jit::rbx), jit::ecx);
  });
  expect_fault(f, f.fault_at + 10, 2);
}

TEST_P(Conformance, PageFaultOfAWriteToAReadOnlyPage) {
  const Faulting f(GetParam(), PF, true, [](auto &a) {
    const u64 last_directory_entry = layout::kPageTables + 2 * kPageSize + 7 * 8; // maps 14 to 16 MiB
    a.and_(jit::qword_ptr(last_directory_entry), ~2);
    a.mov(jit::ebx, 0xE0'0000);
    a.invlpg(jit::byte_ptr(jit::rbx));
    a.mov(jit::dword_ptr(jit::rbx), jit::ecx);
  });
  EXPECT_EQ(f.state.gpr[R9], 3u) << "present, write";
  EXPECT_EQ(f.state.gpr[R10], 0xE0'0000u);
}

TEST_P(Conformance, AnExceptionReturnsByIretq) {
  if (const auto why = limits(); !why.empty()) GTEST_SKIP() << why;
  TestVm vm(GetParam());
  GuestCode code(layout::kCode);
  const Label handler = code.a.newLabel();
  code.a.mov(jit::eax, 1);
  code.a.int3();
  code.a.add(jit::eax, 1);
  code.a.out(layout::kDonePort, jit::al);
  code.a.bind(handler);
  code.a.shl(jit::eax, 4);
  code.a.iretq();
  vm.load(code);
  const auto start = vm.long_mode(layout::kCode);
  vm.set_gate(BP, code.address(handler));
  vm.engine().vcpu(0).set_state(start);
  EXPECT_TRUE(std::holds_alternative<Stopped>(vm.run()));
  EXPECT_EQ(vm.state().gpr[RAX], 0x11u);
  EXPECT_EQ(vm.state().gpr[RSP], layout::kStackTop);
}

TEST_P(Conformance, AFaultWithoutAnIdtIsATripleFault) {
  TestVm vm(GetParam());
  GuestCode code(layout::kCode);
  code.a.ud2();
  vm.load(code);
  auto start = vm.long_mode(layout::kCode);
  start.idtr.limit = 0;
  vm.engine().vcpu(0).set_state(start);
  EXPECT_TRUE(std::holds_alternative<TripleFault>(vm.run()));
}

} // namespace
} // namespace abyme::conformance
