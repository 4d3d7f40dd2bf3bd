#include "soft/system/fault_rules.hpp"
#include "soft/system/test_machine.hpp"

namespace abyme::soft::system {
namespace {

using namespace x86;
using M = TestMachine;

constexpr Event exception(u8 vector) { return {.type = EventType::HardwareException, .vector = vector}; }

TEST(Escalate, FollowsTable6_5) {
  using enum Escalation;
  const u8 benign = UD, contributory = NP;
  struct Row {
    u8 first, second;
    Escalation becomes;
  };
  const Row rows[] = {
      {benign, benign, Serial},
      {benign, contributory, Serial},
      {benign, PF, Serial},
      {contributory, benign, Serial},
      {contributory, contributory, DoubleFault},
      {contributory, PF, Serial},
      {PF, benign, Serial},
      {PF, contributory, DoubleFault},
      {PF, PF, DoubleFault},
      {DF, benign, Serial},
      {DF, contributory, TripleFault},
      {DF, PF, TripleFault},
      {DE, GP, DoubleFault},
      {TS, SS_, DoubleFault},
      {DB, GP, Serial},
  };
  for (const Row &row : rows)
    EXPECT_EQ(escalate(exception(row.first), exception(row.second)), row.becomes)
        << int(row.first) << " " << int(row.second);
}

TEST(Escalate, TakesInterruptsAndNmisForBenignWhateverTheirVector) {
  for (EventType type :
       {EventType::ExternalInterrupt, EventType::Nmi, EventType::SoftwareInterrupt, EventType::SoftwareException})
    EXPECT_EQ(escalate({.type = type, .vector = GP}, exception(GP)), Escalation::Serial);
}

struct DeliverFault : ::testing::Test {
  TestMachine m;
  Cpu &cpu = m.cpu;
  void SetUp() override { m.long_mode(0); }
  void gate(u8 vector) { m.set_gate64(vector, make_gate(M::kCode64, M::kHandler + vector, kInterruptGate32, 0)); }
};

TEST_F(DeliverFault, DeliversAPageFaultWithItsAddress) {
  gate(PF);
  (void)raise(cpu, PF, 2);
  cpu.fault.event.address = 0x123456;
  deliver_fault(cpu);
  EXPECT_EQ(cpu.rip, M::kHandler + PF);
  EXPECT_EQ(cpu.cr2, 0x123456u);
  EXPECT_EQ(m.stack(0), 2u);
  EXPECT_FALSE(cpu.delivering);
  EXPECT_EQ(cpu.fault.kind, Fault::Kind::None);
}

TEST_F(DeliverFault, BecomesADoubleFaultWithError0) {
  gate(DF);
  (void)raise(cpu, GP, 8); // no gate: #GP, so #DF
  deliver_fault(cpu);
  EXPECT_EQ(cpu.rip, M::kHandler + DF);
  EXPECT_EQ(m.stack(0), 0u);
  EXPECT_EQ(m.stack(1), M::kCode);
}

TEST_F(DeliverFault, DeliversTheSecondOfABenignPair) {
  gate(GP);
  (void)raise(cpu, UD);
  deliver_fault(cpu);
  EXPECT_EQ(cpu.rip, M::kHandler + GP);
  EXPECT_EQ(m.stack(0), UD * 8 + 2u + 1) << "the missing gate of #UD, with EXT";
}

TEST_F(DeliverFault, ShutsDownAfterATripleFault) {
  (void)raise(cpu, GP, 0);
  deliver_fault(cpu);
  EXPECT_EQ(cpu.activity, Activity::Shutdown);
  EXPECT_FALSE(cpu.delivering);
}

TEST_F(DeliverFault, SetsDr6AndClearsGeneralDetect) {
  gate(DB);
  cpu.dr7 |= 1 << 13;
  cpu.dr6 |= 8;
  (void)raise(cpu, DB);
  cpu.fault.event.address = 1 << 14 | 1;
  deliver_fault(cpu);
  EXPECT_EQ(cpu.dr6, 0xFFFF0FF0u | 1 << 14 | 1);
  EXPECT_FALSE(cpu.dr7 & 1 << 13);
}

TEST_F(DeliverFault, EventsThatFailStartOver) {
  gate(GP);
  deliver_event(cpu, {.type = EventType::ExternalInterrupt, .vector = 0x80});
  EXPECT_EQ(cpu.rip, M::kHandler + GP);
  EXPECT_EQ(m.stack(0), 0x80u * 8 + 2 + 1);
}

} // namespace
} // namespace abyme::soft::system
