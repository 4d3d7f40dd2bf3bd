#include "soft/system/instructions.hpp"
#include "soft/system/test_machine.hpp"

namespace abyme::soft::system {
namespace {

using namespace x86;
using M = TestMachine;

constexpr u64 kBusy = 2ull << 40;

struct TaskSwitch : ::testing::Test {
  TestMachine m;
  Cpu &cpu = m.cpu;
  void SetUp() override { prepare(m); }
  static void prepare(TestMachine &m) {
    m.protected_mode(0);
    m.change_descriptor(M::kTss, 0, kBusy);
    m.store<u32>(M::kTss2Base + 32, 0x5678);     // EIP
    m.store<u32>(M::kTss2Base + 36, 0x2);        // EFLAGS
    m.store<u32>(M::kTss2Base + 40, 0xAAAA);     // EAX
    m.store<u32>(M::kTss2Base + 56, M::kStack3); // ESP
    segment(m, 0, M::kData3), segment(m, 1, M::kCode3), segment(m, 2, M::kData3), segment(m, 3, M::kData3);
    segment(m, 4, 0), segment(m, 5, 0);
  }
  static void segment(TestMachine &m, unsigned i, u16 selector) { m.store<u32>(M::kTss2Base + 72 + i * 4, selector); }
  static Op far(u16 selector) {
    Op o = M::op(4);
    o.disp = selector;
    return o;
  }
  bool busy(u16 selector) { return m.descriptor(selector) & kBusy; }
};

TEST_F(TaskSwitch, ByJumpSavesTheOldTaskAndLoadsTheNew) {
  cpu.gpr[RAX] = 0x1111;
  ASSERT_EQ(m.run(jump_far, far(M::kTss2)), Outcome::Branch);
  EXPECT_EQ(cpu.rip, 0x5678u);
  EXPECT_EQ(cpu.cpl, 3);
  EXPECT_EQ(cpu.gpr[RAX], 0xAAAAu);
  EXPECT_EQ(cpu.tr.selector, M::kTss2);
  EXPECT_EQ(cpu.segments[SS].selector, M::kData3);
  EXPECT_TRUE(cpu.cr0 & cr0::TS);
  EXPECT_EQ(m.load<u32>(M::kTssBase + 32), M::kCode + 2);
  EXPECT_EQ(m.load<u32>(M::kTssBase + 40), 0x1111u);
  EXPECT_EQ(m.load<u16>(M::kTssBase + 76), M::kCode0);
  EXPECT_FALSE(busy(M::kTss));
  EXPECT_TRUE(busy(M::kTss2));
}

TEST_F(TaskSwitch, ByCallNestsAndIretReturns) {
  ASSERT_EQ(m.run(call_far, far(M::kTss2)), Outcome::Branch);
  EXPECT_TRUE(rflags(cpu) & rflags::NT);
  EXPECT_TRUE(busy(M::kTss));
  EXPECT_EQ(m.load<u16>(M::kTss2Base), M::kTss);
  ASSERT_EQ(m.run(iret, m.op(4)), Outcome::Branch);
  EXPECT_EQ(cpu.rip, M::kCode + 2);
  EXPECT_EQ(cpu.cpl, 0);
  EXPECT_EQ(cpu.tr.selector, M::kTss);
  EXPECT_FALSE(rflags(cpu) & rflags::NT);
  EXPECT_FALSE(busy(M::kTss2));
  EXPECT_FALSE(m.load<u32>(M::kTss2Base + 36) & rflags::NT);
}

TEST_F(TaskSwitch, ThroughTheIdtPushesTheErrorCode) {
  m.set_gate(GP, make_gate(M::kTss2, 0, kTaskGate, 0));
  ASSERT_TRUE(deliver(cpu, {.type = EventType::HardwareException, .vector = GP, .has_error = true, .error = 0x18}));
  EXPECT_EQ(cpu.gpr[RSP], M::kStack3 - 4);
  EXPECT_EQ(m.stack(0, 4), 0x18u);
  EXPECT_EQ(m.load<u32>(M::kTssBase + 32), M::kCode);
}

TEST_F(TaskSwitch, EntersVirtual8086Mode) {
  m.store<u32>(M::kTss2Base + 36, 0x2 | rflags::VM);
  segment(m, 1, 0x100);
  ASSERT_EQ(m.run(jump_far, far(M::kTss2)), Outcome::Branch);
  EXPECT_TRUE(cpu.v86());
  EXPECT_EQ(cpu.segments[CS].base, 0x1000u);
}

TEST_F(TaskSwitch, TrapsOnItsTBit) {
  m.store<u16>(M::kTss2Base + 100, 1);
  ASSERT_EQ(m.run(jump_far, far(M::kTss2)), Outcome::Branch);
  EXPECT_EQ(cpu.pending_debug, 1u << 15);
}

TEST_F(TaskSwitch, LoadsA16BitTask) {
  m.set_descriptor(M::kTss2, make_descriptor(M::kTss2Base, 0x2B, kTss16, 0, true));
  for (unsigned i = 0; i < 22; i++) m.store<u16>(M::kTss2Base + i * 2, 0);
  m.store<u16>(M::kTss2Base + 14, 0x4321);
  m.store<u16>(M::kTss2Base + 16, 2);
  const u16 selectors[] = {M::kData0, M::kCode16, M::kData0, M::kData0};
  for (unsigned i = 0; i < 4; i++) m.store<u16>(M::kTss2Base + 34 + i * 2, selectors[i]);
  ASSERT_EQ(m.run(jump_far, far(M::kTss2)), Outcome::Branch);
  EXPECT_EQ(cpu.rip, 0x4321u);
  EXPECT_EQ(cpu.segments[CS].selector, M::kCode16);
}

const FaultCase kBefore[] = {
    {"busy", [](M &m) { m.change_descriptor(M::kTss2, 0, kBusy); }, GP, M::kTss2},
    {"not present", [](M &m) { m.change_descriptor(M::kTss2, kPresentBit, 0); }, NP, M::kTss2},
    {"too short", [](M &m) { m.set_descriptor(M::kTss2, make_descriptor(M::kTss2Base, 0x66, kTss32, 0, true)); }, TS,
     M::kTss2},
};

TEST(TaskSwitchRules, ThatFailBeforeItChangeNothing) {
  for (const FaultCase &c : kBefore) {
    SCOPED_TRACE(c.name);
    TestMachine m;
    TaskSwitch::prepare(m);
    c.change(m);
    CpuState before = get_state(m.cpu);
    EXPECT_EQ(m.run(jump_far, TaskSwitch::far(M::kTss2)), Outcome::Fault);
    expect_fault(m.cpu, c.vector, c.error);
    EXPECT_EQ(get_state(m.cpu), before);
  }
}

const FaultCase kAfter[] = {
    {"LDT selector", [](M &m) { m.store<u32>(M::kTss2Base + 96, M::kData0); }, TS, M::kData0},
    {"null CS", [](M &m) { TaskSwitch::segment(m, 1, 0); }, TS, 0},
    {"CS is data", [](M &m) { TaskSwitch::segment(m, 1, M::kData3); }, TS, M::kData3 & ~3},
    {"CS not present", [](M &m) { m.change_descriptor(M::kCode3, kPresentBit, 0); }, NP, M::kCode3 & ~3},
    {"SS of another level", [](M &m) { TaskSwitch::segment(m, 2, M::kData0); }, TS, M::kData0},
    {"SS not present", [](M &m) { m.change_descriptor(M::kData3, kPresentBit, 0), TaskSwitch::segment(m, 0, 0); }, SS_,
     M::kData3 & ~3},
    {"DS of an inner level", [](M &m) { TaskSwitch::segment(m, 3, M::kData0); }, TS, M::kData0},
    {"EIP beyond the limit",
     [](M &m) { m.set_descriptor(M::kCode3, make_descriptor(0, 0x5677, 11, 3, false, {.big = true})); }, GP, 0},
};

TEST(TaskSwitchRules, ThatFailAfterItFaultInTheNewTask) {
  for (const FaultCase &c : kAfter) {
    SCOPED_TRACE(c.name);
    TestMachine m;
    TaskSwitch::prepare(m);
    c.change(m);
    EXPECT_EQ(m.run(jump_far, TaskSwitch::far(M::kTss2)), Outcome::Fault);
    expect_fault(m.cpu, c.vector, c.error);
    EXPECT_EQ(m.cpu.tr.selector, M::kTss2);
    EXPECT_EQ(m.cpu.rip, 0x5678u);
  }
}

} // namespace
} // namespace abyme::soft::system
