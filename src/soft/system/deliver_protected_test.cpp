#include "soft/system/test_machine.hpp"

namespace abyme::soft::system {
namespace {

using namespace x86;
using M = TestMachine;

constexpr u8 kVector = 0x40;
constexpr u32 kIdtError = kVector * 8 + 2;
constexpr Event kInterrupt{.type = EventType::ExternalInterrupt, .vector = kVector};
constexpr Event kSoftware{.type = EventType::SoftwareInterrupt, .vector = kVector, .length = 2};

void gate(M &m, u16 selector, unsigned type = kInterruptGate32, unsigned dpl = 3, u32 offset = M::kHandler) {
  m.set_gate(kVector, make_gate(selector, offset, type, dpl));
}

struct DeliverProtected : ::testing::Test {
  TestMachine m;
  Cpu &cpu = m.cpu;
  void SetUp() override { user(m); }
  static void user(TestMachine &m) {
    gate(m, M::kCode0);
    m.protected_mode(3);
  }
};

TEST_F(DeliverProtected, SwitchesToTheStackOfTheTss) {
  ASSERT_TRUE(deliver(cpu, kInterrupt));
  EXPECT_EQ(cpu.rip, M::kHandler);
  EXPECT_EQ(cpu.cpl, 0);
  EXPECT_EQ(cpu.segments[CS].selector, M::kCode0);
  EXPECT_EQ(cpu.segments[SS].selector, M::kData0);
  EXPECT_EQ(cpu.gpr[RSP], M::kStack0 - 20);
  EXPECT_EQ(m.stack(0, 4), M::kCode);
  EXPECT_EQ(m.stack(1, 4), M::kCode3);
  EXPECT_EQ(m.stack(2, 4), 0x202u);
  EXPECT_EQ(m.stack(3, 4), M::kStack3);
  EXPECT_EQ(m.stack(4, 4), M::kData3);
  EXPECT_FALSE(rflags(cpu) & rflags::IF);
}

TEST_F(DeliverProtected, KeepsTheStackOfTheSameLevelAndOfConformingCode) {
  gate(m, M::kConforming, kTrapGate32);
  ASSERT_TRUE(deliver(cpu, kInterrupt));
  EXPECT_EQ(cpu.cpl, 3);
  EXPECT_EQ(cpu.segments[CS].selector, M::kConforming | 3);
  EXPECT_EQ(cpu.gpr[RSP], M::kStack3 - 12);
  EXPECT_TRUE(rflags(cpu) & rflags::IF);
}

TEST_F(DeliverProtected, Pushes16BitItemsThroughA16BitGate) {
  gate(m, M::kCode0, kInterruptGate16);
  ASSERT_TRUE(deliver(cpu, kSoftware));
  EXPECT_EQ(cpu.gpr[RSP], M::kStack0 - 10);
  EXPECT_EQ(m.stack(0, 2), M::kCode + 2);
}

TEST_F(DeliverProtected, ReadsTheStackOfA16BitTss) {
  cpu.tr = {M::kTssBase, 0x2B, 0x83, M::kTss};
  m.store<u16>(M::kTssBase + 2, 0x7000);
  m.store<u16>(M::kTssBase + 4, M::kData0);
  ASSERT_TRUE(deliver(cpu, kInterrupt));
  EXPECT_EQ(cpu.gpr[RSP], 0x7000u - 20);
}

TEST_F(DeliverProtected, SavesAllSegmentsOfVirtual8086Mode) {
  m.v86_mode();
  gate(m, M::kCode0);
  cpu.segments[GS].selector = 0x1234;
  cpu.gpr[RSP] = M::kStack3;
  ASSERT_TRUE(deliver(cpu, kInterrupt));
  EXPECT_EQ(cpu.gpr[RSP], M::kStack0 - 36);
  EXPECT_EQ(m.stack(8, 4), 0x1234u);
  EXPECT_TRUE(m.stack(2, 4) & rflags::VM);
  EXPECT_FALSE(cpu.v86());
  EXPECT_FALSE(cpu.segments[DS].usable());
  EXPECT_EQ(cpu.cpl, 0);
}

TEST_F(DeliverProtected, FailsFromVirtual8086ModeToAnotherLevelThan0) {
  m.v86_mode();
  gate(m, M::kCode3);
  EXPECT_FALSE(deliver(cpu, kSoftware));
  expect_fault(cpu, GP, M::kCode3 & ~3);
}

const FaultCase kCases[] = {
    {"gate beyond the limit", [](M &m) { m.cpu.idtr.limit = kVector * 8 + 6; }, GP, kIdtError},
    {"not a gate", [](M &m) { gate(m, M::kCode0, kCallGate32); }, GP, kIdtError},
    {"gate's DPL", [](M &m) { gate(m, M::kCode0, kInterruptGate32, 2); }, GP, kIdtError},
    {"gate not present", [](M &m) { m.set_gate(kVector, make_gate(M::kCode0, 0, kInterruptGate32, 3, 0, false)); }, NP,
     kIdtError},
    {"null code selector", [](M &m) { gate(m, 0); }, GP, 0},
    {"code selector beyond the GDT", [](M &m) { gate(m, 0x200); }, GP, 0x200},
    {"code selector in an absent LDT", [](M &m) { gate(m, 0x0C); }, GP, 0x0C},
    {"not code", [](M &m) { gate(m, M::kData0); }, GP, M::kData0},
    {"outer code", [](M &m) { m.protected_mode(0), gate(m, M::kCode3); }, GP, M::kCode3 & ~3},
    {"code not present", [](M &m) { m.change_descriptor(M::kCode0, kPresentBit, 0); }, NP, M::kCode0},
    {"TSS too short", [](M &m) { m.cpu.tr.limit = 8; }, TS, M::kTss},
    {"null stack selector", [](M &m) { m.store<u32>(M::kTssBase + 8, 0); }, TS, 0},
    {"stack selector beyond the GDT", [](M &m) { m.store<u32>(M::kTssBase + 8, 0x200); }, TS, 0x200},
    {"stack's RPL", [](M &m) { m.store<u32>(M::kTssBase + 8, M::kData0 | 1); }, TS, M::kData0},
    {"stack's DPL", [](M &m) { m.store<u32>(M::kTssBase + 8, M::kData3 & ~3); }, TS, M::kData3 & ~3},
    {"stack read-only", [](M &m) { m.store<u32>(M::kTssBase + 8, M::kReadOnly); }, TS, M::kReadOnly},
    {"stack not present", [](M &m) { m.store<u32>(M::kTssBase + 8, M::kAbsentData); }, SS_, M::kAbsentData},
    {"no room on the stack",
     [](M &m) { m.set_descriptor(M::kData0, make_descriptor(0, M::kStack0 - 2, 3, 0, false, {.big = true})); }, SS_,
     M::kData0},
    {"handler beyond the code's limit",
     [](M &m) { m.set_descriptor(M::kCode0, make_descriptor(0, M::kHandler - 1, 11, 0, false, {.big = true})); }, GP,
     0},
    {"task gate to a busy TSS", [](M &m) { gate(m, M::kTss, kTaskGate), m.change_descriptor(M::kTss, 0, 2ull << 40); },
     GP, M::kTss},
};

class DeliverProtectedFault : public ::testing::TestWithParam<FaultCase> {};

TEST_P(DeliverProtectedFault, FailsByItsRuleAlone) {
  TestMachine m;
  DeliverProtected::user(m);
  GetParam().change(m);
  CpuState before = get_state(m.cpu);
  EXPECT_FALSE(deliver(m.cpu, kSoftware)) << GetParam().name;
  expect_fault(m.cpu, GetParam().vector, GetParam().error);
  EXPECT_EQ(get_state(m.cpu), before);
}

INSTANTIATE_TEST_SUITE_P(Rules, DeliverProtectedFault, ::testing::ValuesIn(kCases),
                         [](const auto &info) { return "case" + std::to_string(info.index); });

TEST(DeliverReal, PushesThreeWordsAndJumpsThroughTheVectorTable) {
  TestMachine m;
  m.real_mode();
  m.store<u32>(kVector * 4, 0x1000'0040);
  m.cpu.segments[CS].selector = 0x77;
  ASSERT_TRUE(deliver(m.cpu, kSoftware));
  EXPECT_EQ(m.cpu.rip, 0x40u);
  EXPECT_EQ(m.cpu.segments[CS].base, 0x10000u);
  EXPECT_EQ(m.stack(0, 2), M::kCode + 2);
  EXPECT_EQ(m.stack(1, 2), 0x77u);
  EXPECT_EQ(m.stack(2, 2), 0x202u);
  EXPECT_FALSE(rflags(m.cpu) & rflags::IF);
}

TEST(DeliverReal, FailsBeyondTheTablesLimitAndTheCodes) {
  TestMachine m;
  m.real_mode();
  m.cpu.idtr.limit = kVector * 4 + 2;
  EXPECT_FALSE(deliver(m.cpu, kSoftware));
  expect_fault(m.cpu, GP, kIdtError);
  m.real_mode();
  m.store<u32>(kVector * 4, 0x8000);
  m.cpu.segments[CS].limit = 0x7FFF;
  EXPECT_FALSE(deliver(m.cpu, kSoftware));
  expect_fault(m.cpu, GP, 0);
}

TEST(DeliverReal, FailsOnAStackThatEndsInTheMiddle) {
  TestMachine m;
  m.real_mode();
  m.cpu.gpr[RSP] = 3; // the second word would straddle FFFFh
  EXPECT_FALSE(deliver(m.cpu, kSoftware));
  expect_fault(m.cpu, SS_, 0);
}

} // namespace
} // namespace abyme::soft::system
