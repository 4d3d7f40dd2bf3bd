#include "conformance/test_vm.hpp"
#include <gmock/gmock.h>
#include <poll.h>
#include <sys/eventfd.h>

// Port and memory-mapped accesses as the machine sees them.
namespace abyme::conformance {
namespace {

using testing::ElementsAre;
using namespace x86;

TEST_P(Conformance, PortsAreAccessedInEachSize) {
  TestVm vm(GetParam());
  vm.on_read = [](const Access &a) { return 0x8182'8384u + a.at; };
  GuestCode code(layout::kCode);
  code.a.mov(jit::rax, 0xFFFF'FFFF'1122'3344);
  code.a.mov(jit::edx, 0x510);
  code.a.out(jit::dx, jit::al);
  code.a.out(jit::dx, jit::ax);
  code.a.out(jit::dx, jit::eax);
  code.a.in(jit::al, 0x60);
  code.a.mov(jit::r8, jit::rax);
  code.a.in(jit::ax, jit::dx);
  code.a.mov(jit::r9, jit::rax);
  code.a.in(jit::eax, jit::dx);
  code.a.mov(jit::r10, jit::rax);
  code.a.out(layout::kDonePort, jit::al);
  vm.load(code);
  vm.engine().vcpu(0).set_state(vm.long_mode(layout::kCode));
  EXPECT_TRUE(std::holds_alternative<Stopped>(vm.run()));
  EXPECT_THAT(vm.accesses(),
              ElementsAre(Access{true, true, 0x510, 1, 0x44}, Access{true, true, 0x510, 2, 0x3344},
                          Access{true, true, 0x510, 4, 0x1122'3344}, Access{false, true, 0x60, 1, 0x8182'83E4},
                          Access{false, true, 0x510, 2, 0x8182'8894}, Access{false, true, 0x510, 4, 0x8182'8894}));
  const auto s = vm.state();
  EXPECT_EQ(s.gpr[R8], 0xFFFF'FFFF'1122'33E4u) << "AL alone changes";
  EXPECT_EQ(s.gpr[R9], 0xFFFF'FFFF'1122'8894u);
  EXPECT_EQ(s.gpr[R10], 0x8182'8894u) << "a 32-bit result clears the upper half";
}

TEST_P(Conformance, StringInputAndOutputMoveEachElement) {
  TestVm vm(GetParam());
  u64 next = 1;
  vm.on_read = [&next](const Access &) { return next++; };
  vm.store<u32>(layout::kData, 0x6463'6261);
  GuestCode code(layout::kCode);
  code.a.cld();
  code.a.mov(jit::edx, 0x3F8);
  code.a.mov(jit::esi, static_cast<u32>(layout::kData));
  code.a.mov(jit::ecx, 4);
  code.a.rep().outs(jit::dx, jit::byte_ptr(jit::rsi));
  code.a.mov(jit::edi, static_cast<u32>(layout::kData + 0x100));
  code.a.mov(jit::ecx, 3);
  code.a.rep().ins(jit::word_ptr(jit::rdi), jit::dx);
  code.a.out(layout::kDonePort, jit::al);
  vm.load(code);
  vm.engine().vcpu(0).set_state(vm.long_mode(layout::kCode));
  EXPECT_TRUE(std::holds_alternative<Stopped>(vm.run()));
  std::string written;
  for (const auto &a : vm.accesses())
    if (a.write) written += static_cast<char>(a.value);
  EXPECT_EQ(written, "abcd");
  EXPECT_EQ(vm.load<u64>(layout::kData + 0x100), 0x0000'0003'0002'0001u);
  const auto s = vm.state();
  EXPECT_EQ(s.gpr[RSI], layout::kData + 4);
  EXPECT_EQ(s.gpr[RDI], layout::kData + 0x106);
  EXPECT_EQ(s.gpr[RCX], 0u);
}

TEST_P(Conformance, MemoryMappedAccessesKeepTheirSize) {
  TestVm vm(GetParam());
  vm.on_read = [](const Access &) { return 0xF1F2'F3F4'F5F6'F7F8; };
  GuestCode code(layout::kCode);
  code.a.mov(jit::rsi, layout::kMmio);
  code.a.mov(jit::rax, 0x0102'0304'0506'0708);
  code.a.mov(jit::byte_ptr(jit::rsi), jit::al);
  code.a.mov(jit::word_ptr(jit::rsi, 2), jit::ax);
  code.a.mov(jit::dword_ptr(jit::rsi, 4), jit::eax);
  code.a.mov(jit::qword_ptr(jit::rsi, 8), jit::rax);
  code.a.movzx(jit::r8d, jit::byte_ptr(jit::rsi));
  code.a.movsx(jit::r9, jit::word_ptr(jit::rsi, 2));
  code.a.mov(jit::r10d, jit::dword_ptr(jit::rsi, 4));
  code.a.mov(jit::r11, jit::qword_ptr(jit::rsi, 8));
  code.a.out(layout::kDonePort, jit::al);
  vm.load(code);
  vm.engine().vcpu(0).set_state(vm.long_mode(layout::kCode));
  EXPECT_TRUE(std::holds_alternative<Stopped>(vm.run()));
  constexpr u64 kAnswer = 0xF1F2'F3F4'F5F6'F7F8;
  EXPECT_THAT(vm.accesses(), ElementsAre(Access{true, false, layout::kMmio, 1, 0x08},
                                         Access{true, false, layout::kMmio + 2, 2, 0x0708},
                                         Access{true, false, layout::kMmio + 4, 4, 0x0506'0708},
                                         Access{true, false, layout::kMmio + 8, 8, 0x0102'0304'0506'0708},
                                         Access{false, false, layout::kMmio, 1, kAnswer},
                                         Access{false, false, layout::kMmio + 2, 2, kAnswer},
                                         Access{false, false, layout::kMmio + 4, 4, kAnswer},
                                         Access{false, false, layout::kMmio + 8, 8, kAnswer}));
  const auto s = vm.state();
  EXPECT_EQ(s.gpr[R8], 0xF8u);
  EXPECT_EQ(s.gpr[R9], 0xFFFF'FFFF'FFFF'F7F8u);
  EXPECT_EQ(s.gpr[R10], 0xF5F6'F7F8u);
  EXPECT_EQ(s.gpr[R11], kAnswer);
}

TEST_P(Conformance, AnInstructionMayReadAndWriteADevice) {
  TestVm vm(GetParam());
  vm.on_read = [](const Access &) { return 0x10; };
  GuestCode code(layout::kCode);
  code.a.mov(jit::rsi, layout::kMmio);
  code.a.add(jit::dword_ptr(jit::rsi), 5);
  code.a.mov(jit::eax, 0x77);
  code.a.xchg(jit::dword_ptr(jit::rsi), jit::eax);
  code.a.mov(jit::r8d, jit::eax);
  code.a.out(layout::kDonePort, jit::al);
  vm.load(code);
  vm.engine().vcpu(0).set_state(vm.long_mode(layout::kCode));
  EXPECT_TRUE(std::holds_alternative<Stopped>(vm.run()));
  EXPECT_THAT(vm.accesses(),
              ElementsAre(Access{false, false, layout::kMmio, 4, 0x10}, Access{true, false, layout::kMmio, 4, 0x15},
                          Access{false, false, layout::kMmio, 4, 0x10}, Access{true, false, layout::kMmio, 4, 0x77}));
  EXPECT_EQ(vm.state().gpr[R8], 0x10u);
}

bool is_signalled(int event_fd) {
  pollfd p{.fd = event_fd, .events = POLLIN, .revents = 0};
  return ::poll(&p, 1, 1000) == 1;
}

TEST_P(Conformance, ADoorbellSignalsItsEventAndNobodyElse) {
  TestVm vm(GetParam());
  const Fd event(::eventfd(0, EFD_NONBLOCK));
  if (!vm.engine().attach_doorbell(Gpa(layout::kMmio), 2, event.get()))
    GTEST_SKIP() << GetParam().name << ": the engine has no doorbells";
  GuestCode code(layout::kCode);
  code.a.mov(jit::rsi, layout::kMmio);
  code.a.mov(jit::word_ptr(jit::rsi), 1);
  code.a.mov(jit::word_ptr(jit::rsi, 4), 2);
  code.a.out(layout::kDonePort, jit::al);
  vm.load(code);
  vm.engine().vcpu(0).set_state(vm.long_mode(layout::kCode));
  EXPECT_TRUE(std::holds_alternative<Stopped>(vm.run()));
  EXPECT_TRUE(is_signalled(event.get()));
  EXPECT_THAT(vm.accesses(), ElementsAre(Access{true, false, layout::kMmio + 4, 2, 2}));

  vm.engine().detach_doorbell(Gpa(layout::kMmio), 2, event.get());
  vm.engine().vcpu(0).set_state(vm.long_mode(layout::kCode));
  EXPECT_TRUE(std::holds_alternative<Stopped>(vm.run()));
  EXPECT_EQ(vm.accesses().size(), 3u) << "a doorbell that is gone is a device access again";
}

} // namespace
} // namespace abyme::conformance
