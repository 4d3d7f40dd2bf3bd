#include "conformance/test_vm.hpp"

// Breakpoints of the debug registers (SDM 3B §18.2, §18.3.1).
namespace abyme::conformance {
namespace {

using namespace x86;
using asmjit::Label;
using layout::kData;

constexpr u64 kExecute = 0, kWrite = 1, kIo = 2, kReadWrite = 3;
constexpr u64 kOne = 0, kTwo = 1, kEight = 2, kFour = 3; // DR7.LEN0

// Runs `body` with breakpoint 0 as given. Each #DB counts in R12, leaves the RIP of its frame in R8 and DR6 in R9, and
// returns with RF set.
class Debugged {
public:
  struct Breakpoint {
    u64 kind, length, address; // 0: the label that `body` binds
    bool extensions = true;    // CR4.DE
  };
  Debugged(const EngineRow &row, Breakpoint b, const std::function<void(jit::Assembler &, Label)> &body) : vm(row) {
    GuestCode code(layout::kCode);
    auto &a = code.a;
    const Label handler = a.newLabel(), at = a.newLabel();
    a.xor_(jit::r12d, jit::r12d);
    if (b.extensions) {
      a.mov(jit::rax, jit::cr4);
      a.or_(jit::eax, 8);
      a.mov(jit::cr4, jit::rax);
    }
    if (b.address)
      a.mov(jit::eax, b.address);
    else
      a.lea(jit::rax, jit::ptr(at));
    a.mov(jit::dr0, jit::rax);
    a.mov(jit::ebx, kData);
    a.mov(jit::dword_ptr(jit::rbx), 0); // its page is in the TLB by now
    a.mov(jit::eax, 0x402 | b.kind << 16 | b.length << 18);
    a.mov(jit::dr7, jit::rax);
    body(a, at);
    a.xor_(jit::eax, jit::eax);
    a.mov(jit::dr7, jit::rax);
    a.out(layout::kDonePort, jit::al);
    a.bind(handler);
    a.inc(jit::r12d);
    a.mov(jit::r8, jit::qword_ptr(jit::rsp));
    a.mov(jit::r9, jit::dr6);
    a.or_(jit::dword_ptr(jit::rsp, 16), 0x10000);
    a.iretq();
    vm.load(code);
    const auto start = vm.long_mode(layout::kCode);
    vm.set_gate(DB, code.address(handler));
    vm.engine().vcpu(0).set_state(start);
    EXPECT_TRUE(std::holds_alternative<Stopped>(vm.run()));
    state = vm.state();
    label = code.address(at);
  }
  [[nodiscard]] u64 traps() const { return state.gpr[R12]; }
  TestVm vm;
  CpuState state;
  u64 label = 0;
};

void expect_trap(const Debugged &d) {
  EXPECT_EQ(d.traps(), 1u);
  EXPECT_EQ(d.state.gpr[R8], d.label);
  EXPECT_EQ(d.state.gpr[R9] & 0xE00F, 1u);
}

struct DataCase {
  const char *name;
  Debugged::Breakpoint breakpoint;
  std::function<void(jit::Assembler &)> access;
  bool met;
};

TEST_P(Conformance, DataBreakpoints) {
  if (const auto why = limits(); !why.empty()) GTEST_SKIP() << why;
  const auto write8 = [](u64 offset) {
    return [offset](auto &a) { a.mov(jit::byte_ptr(jit::rbx, static_cast<i32>(offset)), 1); };
  };
  const auto read = [](auto &a) { a.mov(jit::eax, jit::dword_ptr(jit::rbx)); };
  const DataCase cases[] = {
      {"write", {kWrite, kFour, kData}, [](auto &a) { a.mov(jit::dword_ptr(jit::rbx), 1); }, true},
      {"read, only writes watched", {kWrite, kFour, kData}, read, false},
      {"read", {kReadWrite, kFour, kData}, read, true},
      {"read-modify-write", {kWrite, kFour, kData}, [](auto &a) { a.inc(jit::dword_ptr(jit::rbx)); }, true},
      {"last byte", {kWrite, kFour, kData}, write8(3), true},
      {"behind it", {kWrite, kFour, kData}, write8(4), false},
      {"the address is aligned to the length", {kWrite, kTwo, kData + 1}, write8(0), true},
      {"one byte", {kWrite, kOne, kData + 1}, write8(0), false},
      {"eight bytes", {kWrite, kEight, kData}, write8(7), true},
      {"across its start", {kWrite, kFour, kData + 4}, [](auto &a) { a.mov(jit::qword_ptr(jit::rbx, 1), 1); }, true},
      {"locked", {kWrite, kFour, kData}, [](auto &a) { a.lock().inc(jit::dword_ptr(jit::rbx)); }, true},
      {"SSE", {kReadWrite, kFour, kData}, [](auto &a) { a.movups(jit::xmm0, jit::ptr(jit::rbx)); }, true},
      {"string",
       {kWrite, kOne, kData},
       [](auto &a) {
         a.mov(jit::edi, kData);
         a.stosb();
       },
       true},
      {"push", {kWrite, kFour, layout::kStackTop - 8}, [](auto &a) { a.push(jit::rax); }, true},
  };
  for (const auto &c : cases) {
    SCOPED_TRACE(c.name);
    const Debugged d(GetParam(), c.breakpoint, [&](auto &a, Label at) {
      c.access(a);
      a.bind(at);
      a.nop();
    });
    if (c.met)
      expect_trap(d);
    else
      EXPECT_EQ(d.traps(), 0u);
  }
}

TEST_P(Conformance, InstructionBreakpointsAreFaultsThatResumePasses) {
  if (const auto why = limits(); !why.empty()) GTEST_SKIP() << why;
  const Debugged d(GetParam(), {kExecute, kOne, 0}, [](auto &a, Label at) {
    a.nop();
    a.bind(at);
    a.inc(jit::r13d);
    a.nop();
  });
  expect_trap(d);
  EXPECT_EQ(d.state.gpr[R13] & 1, 1u);
}

// RF is over after one instruction: the second round meets the breakpoint again.
TEST_P(Conformance, ResumeLastsOneInstruction) {
  if (const auto why = limits(); !why.empty()) GTEST_SKIP() << why;
  const Debugged d(GetParam(), {kExecute, kOne, 0}, [](auto &a, Label at) {
    a.mov(jit::ecx, 3);
    a.bind(at);
    a.dec(jit::ecx);
    a.jnz(at);
  });
  EXPECT_EQ(d.traps(), 3u);
}

TEST_P(Conformance, PortBreakpointsNeedDebugExtensions) {
  if (GetParam().name == std::string_view("kvm")) GTEST_SKIP() << "kvm: it emulates port accesses without looking at breakpoints";
  if (const auto why = limits(); !why.empty()) GTEST_SKIP() << why;
  for (const bool extensions : {true, false}) {
    const Debugged d(GetParam(), {kIo, kTwo, 0x80, extensions}, [](auto &a, Label at) {
      a.out(0x81, jit::al);
      a.bind(at);
      a.out(0x82, jit::al);
    });
    if (extensions)
      expect_trap(d);
    else
      EXPECT_EQ(d.traps(), 0u);
  }
}

} // namespace
} // namespace abyme::conformance
