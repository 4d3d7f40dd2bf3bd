#include "conformance/test_vm.hpp"
#include <gmock/gmock.h>

// The modes of a CPU, and the way from one to the next (SDM 3A §10.8, §10.9).
namespace abyme::conformance {
namespace {

using testing::ElementsAre;
using namespace x86;

template <class T> bool is(const VcpuExit &exit) { return std::holds_alternative<T>(exit); }

// Real-mode code is given as bytes, since AsmJit has no 16-bit mode.
constexpr std::initializer_list<u8> kRealModeAdds = {
    0xB8, 0x34, 0x12,       // mov ax, 0x1234
    0x05, 0x11, 0x11,       // add ax, 0x1111
    0xBB, 0x00, 0x20,       // mov bx, 0x2000
    0x8E, 0xDB,             // mov ds, bx
    0xA3, 0x10, 0x00,       // mov [0x10], ax
    0x0F, 0x31,             // rdtsc, of which only that it runs
    0xB0, 0x01, 0xE6, 0xF4, // mov al, 1; out 0xf4, al
    0xF4,                   // hlt
};

TEST_P(Conformance, RealModeComputesThroughItsSegments) {
  TestVm vm(GetParam());
  vm.load_bytes(0x7C00, kRealModeAdds);
  vm.engine().vcpu(0).set_state(TestVm::real_mode(0x7C00));
  EXPECT_TRUE(is<Stopped>(vm.run()));
  EXPECT_EQ(vm.load<u16>(0x20010), 0x2345);
  const auto s = vm.state();
  EXPECT_EQ(s.segments[DS].selector, 0x2000);
  EXPECT_EQ(s.segments[DS].base, 0x20000u);
  EXPECT_EQ(s.rip, 0x7C00 + kRealModeAdds.size() - 1) << "the access that stops the vCPU is complete";
}

constexpr std::initializer_list<u8> kToProtectedMode = {
    0xFA,                                           // cli
    0x0F, 0x01, 0x16, 0x40, 0x7C,                   // lgdt [0x7c40]
    0x0F, 0x20, 0xC0,                               // mov eax, cr0
    0x0C, 0x01,                                     // or al, 1
    0x0F, 0x22, 0xC0,                               // mov cr0, eax
    0x66, 0xEA, 0x00, 0x00, 0x01, 0x00, 0x18, 0x00, // jmp dword 0x18:0x10000
};

TEST_P(Conformance, RealModeEntersProtectedModeAndThenLongMode) {
  TestVm vm(GetParam());
  (void)vm.long_mode(0); // for its tables
  vm.load_bytes(0x7C00, kToProtectedMode);
  vm.store<u16>(0x7C40, 7 * 8 - 1);
  vm.store<u32>(0x7C42, layout::kGdt);

  GuestCode in32(layout::kCode, asmjit::Arch::kX86);
  in32.a.mov(jit::eax, layout::kData32);
  in32.a.mov(jit::ds, jit::ax);
  in32.a.mov(jit::es, jit::ax);
  in32.a.mov(jit::ss, jit::ax);
  in32.a.mov(jit::esp, static_cast<u32>(layout::kStackTop));
  in32.a.mov(jit::eax, 0x89AB'CDEF);
  in32.a.push(jit::eax);
  in32.a.pop(jit::ebx);
  in32.a.mov(jit::dword_ptr(layout::kData), jit::ebx);
  in32.a.mov(jit::eax, static_cast<u32>(cr4::PAE));
  in32.a.mov(jit::cr4, jit::eax);
  in32.a.mov(jit::eax, static_cast<u32>(layout::kPageTables));
  in32.a.mov(jit::cr3, jit::eax);
  in32.a.mov(jit::ecx, 0xC000'0080); // IA32_EFER
  in32.a.mov(jit::eax, static_cast<u32>(efer::LME));
  in32.a.xor_(jit::edx, jit::edx);
  in32.a.wrmsr();
  in32.a.mov(jit::eax, static_cast<u32>(cr0::PE | cr0::PG));
  in32.a.mov(jit::cr0, jit::eax);
  in32.a.push(layout::kCode64);
  in32.a.push(static_cast<u32>(layout::kCode + 0x1000));
  in32.a.db(0xCB); // retf
  vm.load(in32);

  GuestCode in64(layout::kCode + 0x1000);
  in64.a.mov(jit::rax, 0x1122'3344'5566'7788);
  in64.a.mov(jit::r15, jit::rax);
  in64.a.shr(jit::r15, 36);
  in64.a.mov(jit::ecx, 0xC000'0080);
  in64.a.rdmsr();
  in64.a.mov(jit::r14d, jit::eax);
  in64.a.out(layout::kDonePort, jit::al);
  vm.load(in64);

  vm.engine().vcpu(0).set_state(TestVm::real_mode(0x7C00));
  EXPECT_TRUE(is<Stopped>(vm.run()));
  EXPECT_EQ(vm.load<u32>(layout::kData), 0x89AB'CDEFu);
  const auto s = vm.state();
  EXPECT_EQ(s.gpr[R15], 0x1122'3344'5566'7788u >> 36);
  EXPECT_EQ(s.gpr[R14], efer::LME | efer::LMA);
  EXPECT_EQ(s.efer & efer::LMA, efer::LMA);
  EXPECT_TRUE(s.segments[CS].is_long());
}

TEST_P(Conformance, ResetStartsBelowFourGigabytes) {
  TestVm vm(GetParam());
  const auto s = vm.state();
  EXPECT_EQ(s.rip, 0xFFF0u);
  EXPECT_EQ(s.segments[CS].base, 0xFFFF'0000u);
  EXPECT_EQ(s.segments[CS].selector, 0xF000u);
  EXPECT_EQ(s.cr0 & (cr0::PE | cr0::PG), 0u);
}

TEST_P(Conformance, StateThatIsSetIsTheStateThatIsGot) {
  TestVm vm(GetParam());
  auto s = vm.long_mode(layout::kCode);
  for (u64 i = 0; i < kGprs; ++i) s.gpr[i] = 0x0101'0101'0101'0101 * (i + 1);
  s.cr2 = 0xFFFF'8000'1234'5000;
  s.segments[FS].base = 0x7FFF'1234'5678;
  vm.engine().vcpu(0).set_state(s);
  EXPECT_EQ(vm.state(), s);
}

TEST_P(Conformance, VectorRegistersHoldTheirValues) {
  if (const auto why = limits(); !why.empty()) GTEST_SKIP() << why;
  TestVm vm(GetParam());
  GuestCode code(layout::kCode);
  code.a.mov(jit::rax, 0x0123'4567'89AB'CDEF);
  code.a.movq(jit::xmm3, jit::rax);
  code.a.paddq(jit::xmm3, jit::xmm3);
  code.a.movq(jit::rbx, jit::xmm3);
  code.a.out(layout::kDonePort, jit::al);
  vm.load(code);
  vm.engine().vcpu(0).set_state(vm.long_mode(layout::kCode));
  EXPECT_TRUE(is<Stopped>(vm.run()));
  EXPECT_EQ(vm.state().gpr[RBX], 0x0246'8ACF'1357'9BDEu);
}

TEST_P(Conformance, CpuidTellsTheModelAndTheApicId) {
  TestVm vm(GetParam());
  GuestCode code(layout::kCode);
  code.a.xor_(jit::eax, jit::eax);
  code.a.cpuid();
  code.a.mov(jit::r8d, jit::ebx);
  code.a.mov(jit::r9d, jit::edx);
  code.a.mov(jit::r10d, jit::ecx);
  code.a.mov(jit::eax, 0xB);
  code.a.xor_(jit::ecx, jit::ecx);
  code.a.cpuid();
  code.a.mov(jit::r11d, jit::edx);
  code.a.out(layout::kDonePort, jit::al);
  vm.load(code);
  vm.engine().vcpu(0).set_state(vm.long_mode(layout::kCode));
  EXPECT_TRUE(is<Stopped>(vm.run()));
  const auto s = vm.state();
  EXPECT_THAT((std::array{s.gpr[R8], s.gpr[R9], s.gpr[R10]}), ElementsAre(0x756E'6547u, 0x4965'6E69u, 0x6C65'746Eu));
  EXPECT_EQ(s.gpr[R11], 0u);
}

} // namespace
} // namespace abyme::conformance
