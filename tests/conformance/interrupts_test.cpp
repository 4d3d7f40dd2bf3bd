#include "conformance/test_vm.hpp"
#include <gmock/gmock.h>
#include <sys/eventfd.h>
#include <thread>

// Interrupts from outside and from the local APIC (SDM 3A chapters 6 and 11).
namespace abyme::conformance {
namespace {

using namespace x86;
using asmjit::Label;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr u64 kApic = 0xFEE0'0000;
constexpr i32 kEoi = 0xB0, kSpurious = 0xF0, kIcrLow = 0x300, kLvtTimer = 0x320, kLint0 = 0x350, kInitialCount = 0x380,
              kDivide = 0x3E0;
constexpr u32 kExtInt = 0x700;
constexpr u16 kReadyPort = 0x80;
constexpr u32 kLevel = 1 << 15, kAssert = 1 << 14;
constexpr u8 kVector = 0x45;

// A guest that enables its APIC, does `prepare`, reports ready, halts with interrupts on until the handler of kVector
// has run, and ends. The handler counts in R12 and ends the interrupt.
struct Waiter {
  explicit Waiter(const EngineRow &row, const std::function<void(jit::Assembler &)> &prepare = {}) : vm(row) {
    GuestCode code(layout::kCode);
    const Label handler = code.a.newLabel(), wait = code.a.newLabel();
    code.a.mov(jit::rsi, kApic);
    code.a.mov(jit::dword_ptr(jit::rsi, kSpurious), 0x1FF);
    code.a.xor_(jit::r12d, jit::r12d);
    if (prepare) prepare(code.a);
    code.a.out(kReadyPort, jit::al);
    code.a.bind(wait);
    code.a.sti();
    code.a.hlt();
    code.a.cli();
    code.a.test(jit::r12d, jit::r12d);
    code.a.jz(wait);
    code.a.out(kReadyPort + 1, jit::al); // by its end, the machine has been told all that the handler caused
    code.a.out(layout::kDonePort, jit::al);
    code.a.bind(handler);
    code.a.inc(jit::r12d);
    code.a.mov(jit::dword_ptr(jit::rsi, kEoi), 0);
    code.a.iretq();
    vm.load(code);
    start = vm.long_mode(layout::kCode);
    vm.set_gate(kVector, code.address(handler));
    vm.engine().vcpu(0).set_state(start);
  }
  // Runs to the end, calling `interrupt` in another thread once the guest is ready and probably halted.
  u64 run(const std::function<void()> &interrupt) {
    std::promise<void> ready;
    vm.on_write = [&ready](const Access &a) {
      if (a.port && a.at == kReadyPort) ready.set_value();
    };
    std::thread outside([&ready, &interrupt] {
      ready.get_future().wait();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      interrupt();
    });
    EXPECT_TRUE(std::holds_alternative<Stopped>(vm.run()));
    outside.join();
    return vm.state().gpr[R12];
  }
  TestVm vm;
  CpuState start;
};

TEST_P(Conformance, AMessageWakesAHaltedCpu) {
  Waiter w(GetParam());
  EXPECT_EQ(w.run([&w] { w.vm.engine().message(kApic, kVector); }), 1u);
  EXPECT_THAT(w.vm.ended_interrupts(), IsEmpty()) << "an edge has no end of interest";
}

TEST_P(Conformance, TheEndOfALevelTriggeredInterruptIsTold) {
  Waiter w(GetParam());
  EXPECT_EQ(w.run([&w] { w.vm.engine().message(kApic, kVector | kLevel | kAssert); }), 1u);
  EXPECT_THAT(w.vm.ended_interrupts(), ElementsAre(kVector));
}

TEST_P(Conformance, AnEventBecomesAMessage) {
  Waiter w(GetParam());
  const Fd event(::eventfd(0, EFD_NONBLOCK));
  if (!w.vm.engine().attach_irqfd(event.get(), kApic, kVector))
    GTEST_SKIP() << GetParam().name << ": the engine has no irqfd";
  EXPECT_EQ(w.run([&event] { EXPECT_EQ(::eventfd_write(event.get(), 1), 0); }), 1u);
  w.vm.engine().detach_irqfd(event.get());
  EXPECT_TRUE(w.vm.engine().attach_irqfd(event.get(), kApic, kVector + 1)) << "what is detached can be attached anew";
}

TEST_P(Conformance, AnExternalInterruptWakesAHaltedCpu) {
  Waiter w(GetParam(), [](auto &a) { a.mov(jit::dword_ptr(jit::rsi, kLint0), kExtInt); });
  EXPECT_EQ(w.run([&w] { w.vm.raise_external_interrupt(kVector); }), 1u);
}

TEST_P(Conformance, AnExternalInterruptWaitsForTheInterruptFlag) {
  TestVm vm(GetParam());
  GuestCode code(layout::kCode);
  const Label handler = code.a.newLabel(), spin = code.a.newLabel(), open = code.a.newLabel();
  code.a.mov(jit::rsi, kApic);
  code.a.mov(jit::dword_ptr(jit::rsi, kSpurious), 0x1FF);
  code.a.mov(jit::dword_ptr(jit::rsi, kLint0), kExtInt);
  code.a.xor_(jit::r12d, jit::r12d);
  code.a.out(kReadyPort, jit::al); // raises it, with interrupts off
  code.a.mov(jit::ecx, 1000);
  code.a.bind(spin);
  code.a.dec(jit::ecx);
  code.a.jnz(spin);
  code.a.mov(jit::r13d, jit::r12d);
  code.a.sti();
  code.a.mov(jit::ecx, 10000);
  code.a.bind(open);
  code.a.dec(jit::ecx);
  code.a.jnz(open);
  code.a.cli();
  code.a.out(layout::kDonePort, jit::al);
  code.a.bind(handler);
  code.a.inc(jit::r12d);
  code.a.iretq();
  vm.load(code);
  const auto start = vm.long_mode(layout::kCode);
  vm.set_gate(kVector, code.address(handler));
  vm.engine().vcpu(0).set_state(start);
  vm.on_write = [&vm](const Access &a) {
    if (a.port && a.at == kReadyPort) vm.raise_external_interrupt(kVector);
  };
  EXPECT_TRUE(std::holds_alternative<Stopped>(vm.run()));
  EXPECT_EQ(vm.state().gpr[R13], 0u) << "not while IF is clear";
  EXPECT_EQ(vm.state().gpr[R12], 1u) << "soon after it is set";
}

TEST_P(Conformance, TheApicTimerInterrupts) {
  Waiter w(GetParam(), [](auto &a) {
    a.mov(jit::dword_ptr(jit::rsi, kDivide), 0xB); // by one
    a.mov(jit::dword_ptr(jit::rsi, kLvtTimer), kVector);
    a.mov(jit::dword_ptr(jit::rsi, kInitialCount), 1'000'000);
  });
  EXPECT_EQ(w.run([] {}), 1u);
}

TEST_P(Conformance, TheTscDeadlineInterrupts) {
  Waiter w(GetParam(), [](auto &a) {
    a.mov(jit::dword_ptr(jit::rsi, kLvtTimer), kVector | 2 << 17);
    a.mfence();
    a.rdtsc();
    a.add(jit::eax, 1'000'000);
    a.adc(jit::edx, 0);
    a.mov(jit::ecx, 0x6E0);
    a.wrmsr();
  });
  EXPECT_EQ(w.run([] {}), 1u);
}

TEST_P(Conformance, ASelfIpiArrives) {
  Waiter w(GetParam(), [](auto &a) { a.mov(jit::dword_ptr(jit::rsi, kIcrLow), kVector | 1 << 18 | kAssert); });
  EXPECT_EQ(w.run([] {}), 1u);
}

} // namespace
} // namespace abyme::conformance
