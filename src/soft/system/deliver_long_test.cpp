#include "soft/system/test_machine.hpp"

namespace abyme::soft::system {
namespace {

using namespace x86;
using M = TestMachine;

constexpr u8 kVector = 0x40;
constexpr Event kInterrupt{.type = EventType::ExternalInterrupt, .vector = kVector};
constexpr Event kSoftware{.type = EventType::SoftwareInterrupt, .vector = kVector, .length = 2};

struct DeliverLong : ::testing::Test {
  TestMachine m;
  Cpu &cpu = m.cpu;
  void SetUp() override { user(m); }
  static void user(TestMachine &m) {
    m.set_gate64(kVector, make_gate(M::kCode64, M::kHandler, kInterruptGate32, 3));
    m.store<u64>(M::kTssBase + 4, M::kStack0);
    m.store<u64>(M::kTssBase + 36, M::kIst1);
    m.long_mode(3);
  }
};

TEST_F(DeliverLong, SwitchesToTheStackOfTheTss) {
  cpu.gpr[RSP] = 0x9008;
  ASSERT_TRUE(deliver(cpu, kInterrupt));
  EXPECT_EQ(cpu.rip, M::kHandler);
  EXPECT_EQ(cpu.cpl, 0);
  EXPECT_EQ(cpu.segments[CS].selector, M::kCode64);
  EXPECT_EQ(cpu.segments[SS].selector, 0);
  EXPECT_FALSE(cpu.segments[SS].usable());
  EXPECT_EQ(cpu.gpr[RSP], M::kStack0 - 40);
  EXPECT_EQ(m.stack(0), M::kCode);
  EXPECT_EQ(m.stack(1), M::kCode64User);
  EXPECT_EQ(m.stack(2), 0x202u);
  EXPECT_EQ(m.stack(3), 0x9008u);
  EXPECT_EQ(m.stack(4), M::kData3);
  EXPECT_FALSE(rflags(cpu) & rflags::IF);
}

TEST_F(DeliverLong, AlignsTheStackOfTheSameLevel) {
  m.long_mode(0);
  cpu.gpr[RSP] = 0x7FF4;
  ASSERT_TRUE(deliver(cpu, {.vector = GP, .has_error = false}) == false); // no gate there
  ASSERT_TRUE(deliver(cpu, kInterrupt));
  EXPECT_EQ(cpu.gpr[RSP], 0x7FF0u - 40);
  EXPECT_EQ(m.stack(3), 0x7FF4u);
  EXPECT_EQ(cpu.segments[SS].selector, M::kData0);
}

TEST_F(DeliverLong, TakesTheIstWhateverTheLevel) {
  m.set_gate64(kVector, make_gate(M::kCode64, M::kHandler, kTrapGate32, 3, 1));
  m.long_mode(0);
  ASSERT_TRUE(deliver(cpu, kInterrupt));
  EXPECT_EQ(cpu.gpr[RSP], M::kIst1 - 40);
  EXPECT_TRUE(rflags(cpu) & rflags::IF) << "a trap gate";
}

TEST_F(DeliverLong, PushesAnErrorCodeAndRf) {
  m.set_gate64(PF, make_gate(M::kCode64, M::kHandler, kInterruptGate32, 0));
  ASSERT_TRUE(deliver(cpu, {.type = EventType::HardwareException, .vector = PF, .has_error = true, .error = 6}));
  EXPECT_EQ(m.stack(0), 6u);
  EXPECT_EQ(m.stack(1), M::kCode);
  EXPECT_EQ(m.stack(3), 0x202u | rflags::RF);
}

TEST_F(DeliverLong, ReturnsBehindASoftwareInterrupt) {
  ASSERT_TRUE(deliver(cpu, kSoftware));
  EXPECT_EQ(m.stack(0), M::kCode + 2);
}

TEST_F(DeliverLong, ComesFromCompatibilityMode) {
  m.compatibility_mode(3);
  ASSERT_TRUE(deliver(cpu, kInterrupt));
  EXPECT_TRUE(cpu.code64());
  EXPECT_EQ(m.stack(1), M::kCode3);
}

TEST_F(DeliverLong, BlocksNmisAndMarksTheCodeAccessed) {
  m.set_gate64(NMI, make_gate(M::kCode64Two, M::kHandler, kInterruptGate32, 0));
  ASSERT_TRUE(deliver(cpu, {.type = EventType::Nmi, .vector = NMI}));
  EXPECT_TRUE(cpu.nmi_blocked);
  EXPECT_TRUE(m.descriptor(M::kCode64Two) >> 40 & 1);
}

constexpr u32 kIdtError = kVector * 8 + 2;

const FaultCase kCases[] = {
    {"gate beyond the limit", [](M &m) { m.cpu.idtr.limit = kVector * 16 + 14; }, GP, kIdtError},
    {"not a gate of 64-bit mode", [](M &m) { m.set_gate64(kVector, make_gate(M::kCode64, 0, kInterruptGate16, 3)); },
     GP, kIdtError},
    {"task gate", [](M &m) { m.set_gate64(kVector, make_gate(M::kTss, 0, kTaskGate, 3)); }, GP, kIdtError},
    {"gate's DPL", [](M &m) { m.set_gate64(kVector, make_gate(M::kCode64, M::kHandler, kInterruptGate32, 2)); }, GP,
     kIdtError},
    {"gate not present",
     [](M &m) { m.set_gate64(kVector, make_gate(M::kCode64, M::kHandler, kInterruptGate32, 3, 0, false)); }, NP,
     kIdtError},
    {"null code selector", [](M &m) { m.set_gate64(kVector, make_gate(3, M::kHandler, kInterruptGate32, 3)); }, GP, 0},
    {"code selector beyond the GDT",
     [](M &m) { m.set_gate64(kVector, make_gate(0x200, M::kHandler, kInterruptGate32, 3)); }, GP, 0x200},
    {"not a code segment", [](M &m) { m.set_gate64(kVector, make_gate(M::kData0, M::kHandler, kInterruptGate32, 3)); },
     GP, M::kData0},
    {"32-bit code", [](M &m) { m.set_gate64(kVector, make_gate(M::kCode0, M::kHandler, kInterruptGate32, 3)); }, GP,
     M::kCode0},
    {"code not present", [](M &m) { m.change_descriptor(M::kCode64, kPresentBit, 0); }, NP, M::kCode64},
    {"TSS too short for RSP0", [](M &m) { m.cpu.tr.limit = 10; }, TS, M::kTss},
    {"RSP0 not canonical", [](M &m) { m.store<u64>(M::kTssBase + 4, 0x8000000000000000); }, SS_, 0},
    {"handler not canonical",
     [](M &m) { m.set_gate64(kVector, make_gate(M::kCode64, M::kHandler, kInterruptGate32, 3), 0x8000); }, GP, 0},
};

class DeliverLongFault : public ::testing::TestWithParam<FaultCase> {};

TEST_P(DeliverLongFault, FailsByItsRuleAlone) {
  TestMachine m;
  DeliverLong::user(m);
  GetParam().change(m);
  CpuState before = get_state(m.cpu);
  EXPECT_FALSE(deliver(m.cpu, kSoftware));
  expect_fault(m.cpu, GetParam().vector, GetParam().error);
  EXPECT_EQ(get_state(m.cpu), before);
}

// EXT says that no instruction asked for the event; the gate's DPL is then not looked at.
TEST_P(DeliverLongFault, SetsExtForExternalEvents) {
  if (std::string_view(GetParam().name) == "gate's DPL") return;
  TestMachine m;
  DeliverLong::user(m);
  GetParam().change(m);
  EXPECT_FALSE(deliver(m.cpu, kInterrupt));
  expect_fault(m.cpu, GetParam().vector, GetParam().error | 1);
}

INSTANTIATE_TEST_SUITE_P(Rules, DeliverLongFault, ::testing::ValuesIn(kCases),
                         [](const auto &info) { return "case" + std::to_string(info.index); });

} // namespace
} // namespace abyme::soft::system
