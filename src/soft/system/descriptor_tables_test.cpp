#include "soft/system/instructions.hpp"
#include "soft/system/test_machine.hpp"

namespace abyme::soft::system {
namespace {

using namespace x86;
using M = TestMachine;

TEST(Lgdt, LoadsLimitAndBaseInTheWidthOfTheMode) {
  TestMachine m;
  m.store<u16>(M::kScratch, 0x1234);
  m.store<u64>(M::kScratch + 2, 0xFFFF8000'12345678);
  m.long_mode(0);
  EXPECT_EQ(m.run(lgdt, m.memory_op(8, M::kScratch)), Outcome::Next);
  EXPECT_EQ(m.cpu.gdtr, (TableRegister{0xFFFF8000'12345678, 0x1234}));
  m.protected_mode(0);
  EXPECT_EQ(m.run(lidt, m.memory_op(4, M::kScratch)), Outcome::Next);
  EXPECT_EQ(m.cpu.idtr, (TableRegister{0x12345678, 0x1234}));
  EXPECT_EQ(m.run(lidt, m.memory_op(2, M::kScratch)), Outcome::Next);
  EXPECT_EQ(m.cpu.idtr, (TableRegister{0x345678, 0x1234}));
  EXPECT_EQ(m.run(sidt, m.memory_op(4, M::kScratch + 16)), Outcome::Next);
  EXPECT_EQ(m.load<u16>(M::kScratch + 16), 0x1234);
  EXPECT_EQ(m.load<u32>(M::kScratch + 18), 0x345678u);
}

TEST(Lgdt, NeedsCpl0AndACanonicalBase) {
  TestMachine m;
  m.long_mode(0);
  m.store<u64>(M::kScratch + 2, 1ull << 47);
  EXPECT_EQ(m.run(lgdt, m.memory_op(8, M::kScratch)), Outcome::Fault);
  expect_fault(m.cpu, GP, 0);
  m.long_mode(3);
  EXPECT_EQ(m.run(lgdt, m.memory_op(8, M::kScratch)), Outcome::Fault);
  expect_fault(m.cpu, GP, 0);
  EXPECT_EQ(m.run(sgdt, m.memory_op(8, M::kScratch)), Outcome::Next);
  m.cpu.cr4 |= cr4::UMIP;
  EXPECT_EQ(m.run(sgdt, m.memory_op(8, M::kScratch)), Outcome::Fault);
  expect_fault(m.cpu, GP, 0);
}

Outcome load(M &m, SlowHandler handler, u16 selector) {
  m.cpu.gpr[RAX] = selector;
  return m.run(handler, m.op(2));
}

TEST(Ltr, MarksTheTssBusy) {
  TestMachine m;
  m.long_mode(0);
  m.store<u32>(M::kGdt + M::kTss + 8, 0xFFFF8000);
  EXPECT_EQ(load(m, ltr, M::kTss), Outcome::Next);
  EXPECT_EQ(m.cpu.tr.base, 0xFFFF800000004000u);
  EXPECT_EQ(m.cpu.tr.type(), 11u);
  EXPECT_TRUE(m.descriptor(M::kTss) >> 41 & 1);
  EXPECT_EQ(load(m, ltr, M::kTss), Outcome::Fault) << "busy";
  expect_fault(m.cpu, GP, M::kTss);
}

TEST(Lldt, TakesNullAndTables) {
  TestMachine m;
  m.long_mode(0);
  EXPECT_EQ(load(m, lldt, M::kLdt), Outcome::Next);
  EXPECT_EQ(m.cpu.ldtr.base, M::kLdtBase);
  EXPECT_EQ(load(m, lldt, 2), Outcome::Next);
  EXPECT_FALSE(m.cpu.ldtr.usable());
  EXPECT_EQ(m.run(sldt, m.op(4)), Outcome::Next);
  EXPECT_EQ(m.cpu.gpr[RAX], 2u);
}

TEST(SystemSelectors, FailByEachRule) {
  struct Case {
    SlowHandler handler;
    u16 selector;
    u8 vector;
    u32 error;
  };
  const Case cases[] = {
      {ltr, 0, GP, 0},
      {ltr, M::kTss | 4, GP, M::kTss | 4},
      {ltr, 0x200, GP, 0x200},
      {ltr, 0xF8, GP, 0xF8}, // its second half lies beyond the limit
      {ltr, M::kLdt, GP, M::kLdt},
      {ltr, M::kData0, GP, M::kData0},
      {lldt, M::kTss, GP, M::kTss},
      {lldt, 0x204, GP, 0x204},
  };
  for (const Case &c : cases) {
    SCOPED_TRACE(c.selector);
    TestMachine m;
    m.long_mode(0);
    m.set_descriptor(0xF8, m.descriptor(M::kTss));
    EXPECT_EQ(load(m, c.handler, c.selector), Outcome::Fault);
    expect_fault(m.cpu, c.vector, c.error);
  }
  TestMachine m;
  m.long_mode(0);
  m.change_descriptor(M::kTss, kPresentBit, 0);
  EXPECT_EQ(load(m, ltr, M::kTss), Outcome::Fault);
  expect_fault(m.cpu, NP, M::kTss);
  m.store<u32>(M::kGdt + M::kLdt + 12, 1 << 8);
  EXPECT_EQ(load(m, lldt, M::kLdt), Outcome::Fault) << "a type in the upper half";
  expect_fault(m.cpu, GP, M::kLdt);
  m.real_mode();
  EXPECT_EQ(load(m, lldt, M::kLdt), Outcome::Fault);
  expect_fault(m.cpu, UD, -1);
}

bool zf(const Cpu &cpu) { return rflags(cpu) & rflags::ZF; }

TEST(Queries, AnswerInZf) {
  struct Case {
    SlowHandler handler;
    unsigned cpl;
    u16 selector;
    bool yes;
  };
  const Case cases[] = {
      {verr, 0, M::kData0, true},    {verr, 0, M::kExecuteOnly, false},
      {verr, 3, M::kData0, false},   {verr, 3, M::kConforming, true},
      {verr, 0, 0, false},           {verr, 0, 0x200, false},
      {verw, 0, M::kData0, true},    {verw, 0, M::kReadOnly, false},
      {verw, 0, M::kCode0, false},   {verw, 0, M::kData0 | 3, false},
      {lar, 0, M::kTss, true},       {lar, 3, M::kTss, false},
      {lar, 0, M::kSpare, false},    {lsl, 0, M::kLdt, true},
      {lsl, 0, M::kCallGate, false}, {lar, 3, M::kCallGate, true},
  };
  for (const Case &c : cases) {
    TestMachine m;
    m.protected_mode(c.cpl);
    m.set_descriptor(M::kSpare, make_gate(0, 0, kInterruptGate32, 3));
    m.set_descriptor(M::kCallGate, make_gate(0, 0, kCallGate32, 3));
    m.cpu.gpr[RAX] = c.selector;
    EXPECT_EQ(m.run(c.handler, m.op(4)), Outcome::Next);
    EXPECT_EQ(zf(m.cpu), c.yes) << "selector " << c.selector << " CPL " << c.cpl;
  }
}

TEST(Queries, LarAndLslReturnRightsAndLimit) {
  TestMachine m;
  m.protected_mode(0);
  m.cpu.gpr[RAX] = M::kData0;
  EXPECT_EQ(m.run(lar, m.op(4)), Outcome::Next);
  EXPECT_EQ(m.cpu.gpr[RDX], 0xC09300u);
  EXPECT_EQ(m.run(lsl, m.op(4)), Outcome::Next);
  EXPECT_EQ(m.cpu.gpr[RDX], 0xFFFFFFFFu);
  m.v86_mode();
  EXPECT_EQ(m.run(lsl, m.op(4)), Outcome::Fault);
  expect_fault(m.cpu, UD, -1);
}

TEST(Arpl, RaisesTheRpl) {
  TestMachine m;
  m.protected_mode(0);
  m.cpu.gpr[RAX] = 0x10, m.cpu.gpr[RDX] = 0x23;
  EXPECT_EQ(m.run(arpl, m.op(2)), Outcome::Next);
  EXPECT_EQ(m.cpu.gpr[RAX], 0x13u);
  EXPECT_TRUE(zf(m.cpu));
  EXPECT_EQ(m.run(arpl, m.op(2)), Outcome::Next);
  EXPECT_FALSE(zf(m.cpu));
}

} // namespace
} // namespace abyme::soft::system
