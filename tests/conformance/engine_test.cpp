#include "conformance/test_vm.hpp"
#include <gmock/gmock.h>
#include <thread>

// Starting, stopping and several CPUs.
namespace abyme::conformance {
namespace {

using namespace x86;
using asmjit::Label;

constexpr u64 kTrampoline = 0x8000; // SIPI vector 8
constexpr u64 kApIsUp = layout::kData, kIpiSeen = layout::kData + 1, kCounter = layout::kData + 0x10;
constexpr u32 kX2apicIcr = 0x830;

void stop_soon(TestVm &vm) {
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  vm.engine().stop();
}

// False if the value at `at` is still the same after five seconds.
bool wait_for_change(TestVm &vm, u64 at, u64 from) {
  for (int i = 0; i < 5000; ++i) {
    if (vm.load<u64>(at) != from) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

TEST_P(Conformance, StopEndsALoopAndRunGoesOnWithIt) {
  TestVm vm(GetParam());
  GuestCode code(layout::kCode);
  const Label loop = code.a.newLabel();
  code.a.bind(loop);
  code.a.inc(jit::qword_ptr(kCounter));
  code.a.jmp(loop);
  vm.load(code);
  vm.engine().vcpu(0).set_state(vm.long_mode(layout::kCode));
  for (int round = 0; round < 3; ++round) {
    const u64 before = vm.load<u64>(kCounter);
    std::thread stopper([&vm, before] {
      EXPECT_TRUE(wait_for_change(vm, kCounter, before));
      vm.engine().stop();
    });
    EXPECT_TRUE(std::holds_alternative<Stopped>(vm.run()));
    stopper.join();
  }
}

TEST_P(Conformance, StopEndsAHaltThatNothingWakes) {
  TestVm vm(GetParam());
  GuestCode code(layout::kCode);
  code.a.cli();
  code.a.hlt();
  vm.load(code);
  vm.engine().vcpu(0).set_state(vm.long_mode(layout::kCode));
  std::thread stopper([&vm] { stop_soon(vm); });
  EXPECT_TRUE(std::holds_alternative<Stopped>(vm.run()));
  stopper.join();
}

TEST_P(Conformance, StopEndsTheWaitForSipi) {
  TestVm vm(GetParam(), 2);
  std::thread stopper([&vm] { stop_soon(vm); });
  EXPECT_TRUE(std::holds_alternative<Stopped>(vm.run(1)));
  stopper.join();
}

TEST_P(Conformance, AReadIsCompleteWhenItStopsTheEngine) {
  TestVm vm(GetParam());
  vm.on_read = [&vm](const Access &) {
    vm.engine().stop();
    return 0x5A;
  };
  GuestCode code(layout::kCode);
  const Label behind = code.a.newLabel();
  code.a.xor_(jit::eax, jit::eax);
  code.a.in(jit::al, 0x71);
  code.a.bind(behind);
  code.a.mov(jit::eax, 1);
  code.a.out(layout::kDonePort, jit::al);
  vm.load(code);
  vm.engine().vcpu(0).set_state(vm.long_mode(layout::kCode));
  EXPECT_TRUE(std::holds_alternative<Stopped>(vm.run()));
  EXPECT_EQ(vm.state().gpr[RAX], 0x5Au);
  EXPECT_EQ(vm.state().rip, code.address(behind));
}

// Real-mode code of the second CPU: x2APIC on, says that it is up, then waits for interrupts.
constexpr std::initializer_list<u8> kSecondCpu = {
    0x66, 0xB9, 0x1B, 0x00, 0x00, 0x00, // mov ecx, IA32_APIC_BASE
    0x0F, 0x32,                         // rdmsr
    0x66, 0x0D, 0x00, 0x0C, 0x00, 0x00, // or eax, EN | EXTD
    0x0F, 0x30,                         // wrmsr
    0x66, 0xB9, 0x0F, 0x08, 0x00, 0x00, // mov ecx, IA32_X2APIC_SIVR
    0x66, 0xB8, 0xFF, 0x01, 0x00, 0x00, // mov eax, 0x1ff
    0x66, 0x31, 0xD2,                   // xor edx, edx
    0x0F, 0x30,                         // wrmsr
    0xB8, 0x00, 0x20, 0x8E, 0xD8,       // mov ax, 0x2000; mov ds, ax
    0xC6, 0x06, 0x00, 0x00, 0x01,       // mov byte [0], 1
    0xFB, 0xF4, 0xEB, 0xFC,             // sti; hlt; jmp to the sti
};
// And its handler: adds to the counter, atomically, and says that it was there.
constexpr std::initializer_list<u8> kSecondCpuHandler = {
    0x66, 0xB9, 0x10, 0x27, 0x00, 0x00, // mov ecx, 10000
    0x66, 0xF0, 0xFF, 0x06, 0x10, 0x00, // lock inc dword [0x10]
    0x66, 0x49,                         // dec ecx
    0x75, 0xF6,                         // jnz to the lock
    0xC6, 0x06, 0x01, 0x00, 0x02, 0xF4, // mov byte [1], 2; hlt
};
constexpr u64 kHandlerAt = 0x8100;
constexpr u32 kIncrements = 10000;
constexpr u8 kIpiVector = 0x50;

void send_ipi(jit::Assembler &a, u32 command) {
  a.mov(jit::ecx, kX2apicIcr);
  a.mov(jit::edx, 1); // to APIC ID 1
  a.mov(jit::eax, command);
  a.wrmsr();
}

void wait_for(jit::Assembler &a, u64 at, u8 value) {
  const Label again = a.newLabel();
  a.bind(again);
  a.pause();
  a.cmp(jit::byte_ptr(at), value);
  a.jne(again);
}

TEST_P(Conformance, CpusStartEachOtherSendIpisAndCountTogether) {
  TestVm vm(GetParam(), 2);
  vm.load_bytes(kTrampoline, kSecondCpu);
  vm.load_bytes(kHandlerAt, kSecondCpuHandler);
  vm.store<u32>(kIpiVector * 4u, kHandlerAt); // the real-mode vector: segment 0

  GuestCode code(layout::kCode);
  auto &a = code.a;
  a.mov(jit::ecx, 0x1B);
  a.rdmsr();
  a.or_(jit::eax, 0xC00);
  a.wrmsr();
  a.mov(jit::ecx, 0x80F);
  a.mov(jit::eax, 0x1FF);
  a.xor_(jit::edx, jit::edx);
  a.wrmsr();
  send_ipi(a, 0x4500); // INIT
  send_ipi(a, 0x4600 | kTrampoline >> 12);
  wait_for(a, kApIsUp, 1);
  send_ipi(a, 0x4000 | kIpiVector);
  const Label count = a.newLabel();
  a.mov(jit::ecx, kIncrements);
  a.bind(count);
  a.lock().inc(jit::dword_ptr(kCounter));
  a.dec(jit::ecx);
  a.jnz(count);
  wait_for(a, kIpiSeen, 2);
  a.out(layout::kDonePort, jit::al);
  vm.load(code);

  vm.engine().vcpu(0).set_state(vm.long_mode(layout::kCode));
  auto second = std::async(std::launch::async, [&vm] { return vm.run(1); });
  EXPECT_TRUE(std::holds_alternative<Stopped>(vm.run(0)));
  EXPECT_TRUE(std::holds_alternative<Stopped>(second.get()));
  EXPECT_EQ(vm.load<u32>(kCounter), 2 * kIncrements);
}

} // namespace
} // namespace abyme::conformance
