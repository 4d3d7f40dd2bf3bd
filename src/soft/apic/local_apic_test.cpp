#include "soft/apic/apic_bus.hpp"
#include "soft/apic/local_apic.hpp"
#include <gtest/gtest.h>
#include <thread>

namespace abyme::soft {
namespace {

using namespace apic;

// The guest TSC of this CPU is the clock plus 1000.
struct Signals : CpuSignals {
  void interrupt() override { ++interrupts; }
  void nmi() override { ++nmis; }
  void init() override { ++inits; }
  void sipi(u8 vector) override { sipis.push_back(vector); }
  Nanoseconds time_of_tsc(u64 tsc) override { return tsc < 1000 ? 0 : tsc - 1000; }
  std::atomic<int> interrupts = 0, nmis = 0, inits = 0;
  std::vector<u8> sipis;
};

struct Eois : EoiListener {
  void end_of_interrupt(u8 vector) override { vectors.push_back(vector); }
  std::vector<u8> vectors;
};

class LocalApicTest : public testing::Test {
protected:
  static constexpr unsigned kCpus = 4;
  LocalApicTest() {
    for (unsigned i = 0; i < kCpus; ++i) {
      apics.push_back(
          std::make_unique<LocalApic>(LocalApic::Config{.id = i, .bsp = i == 0}, bus, signals[i], timers, eois));
      apics[i]->write(kSvr, 4, 0x1ff);
    }
  }
  LocalApic &apic(unsigned i = 0) { return *apics[i]; }
  u32 get(u32 reg, unsigned i = 0) { return static_cast<u32>(apic(i).read(reg, 4)); }
  void set(u32 reg, u32 value, unsigned i = 0) { apic(i).write(reg, 4, value); }
  void fixed(u8 vector, unsigned i = 0, bool level = false) { apic(i).accept(DeliveryMode::Fixed, vector, level); }
  void ipi(u32 destination, u32 low) {
    set(kIcrHigh, destination << 24);
    set(kIcrLow, low);
  }
  void to_x2apic(unsigned i) { ASSERT_TRUE(apic(i).set_apic_base(apic(i).apic_base() | kBaseX2apic)); }
  bool wrmsr(u32 reg, u64 value, unsigned i = 0) { return apic(i).msr_write(kMsrBase + reg / 16, value); }
  std::optional<u64> rdmsr(u32 reg, unsigned i = 0) { return apic(i).msr_read(kMsrBase + reg / 16); }
  // Which APICs have something, as a bit mask; takes it.
  unsigned receivers() {
    unsigned mask = 0;
    for (unsigned i = 0; i < kCpus; ++i)
      if (apic(i).pending_vector()) {
        mask |= 1 << i;
        (void)apic(i).acknowledge();
        set_eoi(i);
      }
    return mask;
  }
  void set_eoi(unsigned i = 0) {
    if (apic(i).page())
      set(kEoi, 0, i);
    else
      EXPECT_TRUE(wrmsr(kEoi, 0, i));
  }

  FakeClock clock;
  FakeTimers timers{clock};
  ApicBus bus;
  Eois eois;
  Signals signals[kCpus];
  std::vector<std::unique_ptr<LocalApic>> apics;
};

TEST_F(LocalApicTest, HasTheResetState) {
  apic().reset();
  EXPECT_EQ(apic().apic_base(), 0xfee00900u);
  EXPECT_EQ(apic(1).apic_base(), 0xfee00800u);
  EXPECT_EQ(get(kId, 2), 2u << 24);
  EXPECT_EQ(get(kVersion), 0x01050014u);
  EXPECT_EQ(get(kSvr), 0xffu);
  EXPECT_EQ(get(kDfr), 0xffffffffu);
  for (u32 reg = kLvtTimer; reg <= kLvtError; reg += 0x10) EXPECT_EQ(get(reg), kLvtMasked);
  EXPECT_EQ(apic().page(), Gpa(0xfee00000));
}

TEST_F(LocalApicTest, DeliversByPriorityAndNestsOnlyHigherClasses) {
  fixed(0x41);
  fixed(0x52);
  EXPECT_EQ(signals[0].interrupts, 2);
  EXPECT_EQ(apic().pending_vector(), 0x52);
  EXPECT_EQ(apic().acknowledge(), 0x52);
  EXPECT_EQ(get(kPpr), 0x50u);
  EXPECT_EQ(apic().pending_vector(), std::nullopt);
  fixed(0x5f);
  EXPECT_EQ(apic().pending_vector(), std::nullopt); // the same class
  fixed(0x60);
  EXPECT_EQ(apic().acknowledge(), 0x60);
  EXPECT_EQ(get(kIsr + 0x20), 1u << 18);
  EXPECT_EQ(get(kIsr + 0x30), 1u);
  EXPECT_EQ(get(kIrr + 0x20), 1u << 1 | 1u << 31);
  set_eoi();
  EXPECT_EQ(apic().pending_vector(), std::nullopt);
  set_eoi();
  EXPECT_EQ(apic().acknowledge(), 0x5f);
  set_eoi();
  EXPECT_EQ(apic().acknowledge(), 0x41);
}

TEST_F(LocalApicTest, HoldsBackWhatTprForbids) {
  set(kTpr, 0x4f);
  EXPECT_EQ(apic().cr8(), 4);
  EXPECT_EQ(get(kPpr), 0x4fu);
  fixed(0x4f);
  EXPECT_EQ(apic().pending_vector(), std::nullopt);
  EXPECT_EQ(apic().acknowledge(), 0xff); // spurious
  const int before = signals[0].interrupts;
  apic().set_cr8(3);
  EXPECT_EQ(get(kTpr), 0x30u);
  EXPECT_EQ(signals[0].interrupts, before + 1);
  EXPECT_EQ(apic().pending_vector(), 0x4f);
}

TEST_F(LocalApicTest, BroadcastsTheEoiOfLevelsOnlyAndUnlessSuppressed) {
  fixed(0x30, 0, true);
  EXPECT_EQ(get(kTmr + 0x10), 1u << 16);
  (void)apic().acknowledge();
  set_eoi();
  fixed(0x31);
  (void)apic().acknowledge();
  set_eoi();
  EXPECT_EQ(eois.vectors, std::vector<u8>{0x30});
  set(kSvr, 0x1ff | kSvrSuppressEoiBroadcast);
  fixed(0x30, 0, true);
  (void)apic().acknowledge();
  set_eoi();
  set_eoi(); // with nothing in service
  EXPECT_EQ(eois.vectors, std::vector<u8>{0x30});
  fixed(0x30); // now edge-triggered
  EXPECT_EQ(get(kTmr + 0x10), 0u);
}

TEST_F(LocalApicTest, WhileSoftwareDisabledTakesNoVectorAndMasksItsTable) {
  set(kLvtLint0, 0x700);
  set(kSvr, 0xff);
  fixed(0x40);
  EXPECT_EQ(apic().pending_vector(), std::nullopt);
  EXPECT_EQ(get(kLvtLint0), 0x10700u);
  set(kLvtLint0, 0x700);
  EXPECT_EQ(get(kLvtLint0), 0x10700u);
  apic().accept(DeliveryMode::Nmi, 0, false);
  apic().accept(DeliveryMode::StartUp, 0x9a, false);
  EXPECT_EQ(signals[0].nmis, 1);
  EXPECT_EQ(signals[0].sipis, std::vector<u8>{0x9a});
}

TEST_F(LocalApicTest, LetsThePicThroughAsLint0Says) {
  EXPECT_FALSE(apic().accepts_external());
  set(kLvtLint0, 0x700);
  EXPECT_TRUE(apic().accepts_external());
  set(kLvtLint0, 0x10700);
  EXPECT_FALSE(apic().accepts_external());
  set(kLvtLint0, 0x400);
  EXPECT_FALSE(apic().accepts_external());
  apic().set_lint(0, true);
  EXPECT_EQ(signals[0].nmis, 1);
  set(kLvtLint0, 0x35); // fixed: a virtual wire of another kind
  apic().set_lint(0, false);
  apic().set_lint(0, true);
  apic().set_lint(0, true);
  EXPECT_EQ(apic().pending_vector(), 0x35);
  EXPECT_TRUE(apic().set_apic_base(kDefaultBase | kBaseBsp));
  EXPECT_TRUE(apic().accepts_external());
  apic(1).reset();
  apic(1).enter_virtual_wire_mode();
  EXPECT_TRUE(apic(1).accepts_external());
}

TEST_F(LocalApicTest, CountsErrors) {
  set(kLvtError, 0xf0);
  fixed(0x0f);
  EXPECT_EQ(get(kEsr), 0u); // not yet latched
  EXPECT_EQ(apic().acknowledge(), 0xf0);
  set(kEsr, 0);
  EXPECT_EQ(get(kEsr), kErrorReceivedIllegalVector);
  ipi(0, 0x0403);
  ipi(0, 0x0003);
  set(kEsr, 0);
  EXPECT_EQ(get(kEsr), kErrorSendIllegalVector);
  EXPECT_EQ(get(0x040), 0u);
  set(kSelfIpi, 0x40);
  set(kEsr, 0);
  EXPECT_EQ(get(kEsr), kErrorIllegalRegister);
  set(kLvtError, 0x01); // an illegal error vector
  fixed(0x02);
  set(kEsr, 0);
  EXPECT_EQ(get(kEsr), kErrorReceivedIllegalVector);
  set(kPpr, 1); // read-only: no error
  set(kEsr, 0);
  EXPECT_EQ(get(kEsr), 0u);
}

TEST_F(LocalApicTest, TakesNarrowReadsAndIgnoresNarrowWrites) {
  EXPECT_EQ(apic(3).read(kId + 3, 1), 3u);
  EXPECT_EQ(apic().read(kVersion, 8), kVersionValue);
  EXPECT_EQ(apic().read(kVersion + 8, 4), 0u);
  apic().write(kTpr, 1, 0x50);
  apic().write(kTpr + 4, 4, 0x50);
  EXPECT_EQ(get(kTpr), 0u);
}

TEST_F(LocalApicTest, SendsIpisByShorthand) {
  ipi(0, 0x40 | 1 << 18);
  EXPECT_EQ(receivers(), 0b0001u);
  ipi(0, 0x40 | 2 << 18);
  EXPECT_EQ(receivers(), 0b1111u);
  ipi(0, 0x40 | 3 << 18);
  EXPECT_EQ(receivers(), 0b1110u);
  EXPECT_EQ(get(kIcrLow), 0x40u | 3 << 18);
}

TEST_F(LocalApicTest, SendsIpisToPhysicalDestinations) {
  ipi(2, 0x40);
  EXPECT_EQ(receivers(), 0b0100u);
  ipi(0xff, 0x40);
  EXPECT_EQ(receivers(), 0b1111u);
  ipi(9, 0x40);
  EXPECT_EQ(receivers(), 0u);
  ipi(1, 0x0400); // NMI
  ipi(1, 0xc500); // INIT, level, assert
  ipi(1, 0x8500); // INIT level de-assert
  ipi(1, 0x0699);
  EXPECT_EQ(signals[1].nmis, 1);
  EXPECT_EQ(signals[1].inits, 1);
  EXPECT_EQ(signals[1].sipis, std::vector<u8>{0x99});
}

TEST_F(LocalApicTest, SendsIpisToLogicalDestinations) {
  for (unsigned i = 0; i < kCpus; ++i) set(kLdr, 1u << (24 + i), i);
  ipi(0b1010, 0x840);
  EXPECT_EQ(receivers(), 0b1010u);
  for (unsigned i = 0; i < kCpus; ++i) {
    set(kDfr, 0, i); // cluster model: two clusters of two
    set(kLdr, (i / 2) << 28 | 1u << (24 + i % 2), i);
  }
  ipi(0x12, 0x840);
  EXPECT_EQ(receivers(), 0b1000u);
  ipi(0x03, 0x840);
  EXPECT_EQ(receivers(), 0b0011u);
  ipi(0xff, 0x840);
  EXPECT_EQ(receivers(), 0b1111u);
}

TEST_F(LocalApicTest, GivesLowestPriorityMessagesToOne) {
  for (unsigned i = 0; i < kCpus; ++i) set(kLdr, 1u << (24 + i), i);
  set(kTpr, 0x20, 0);
  set(kTpr, 0x10, 1);
  set(kTpr, 0x30, 3);
  set(kSvr, 0xff, 2); // software-disabled: no candidate
  ipi(0x0f, 0x940);
  EXPECT_EQ(receivers(), 0b0010u);
  bus.message(0xfee0f00c, 0x41); // redirection hint, logical
  EXPECT_EQ(receivers(), 0b0010u);
}

TEST_F(LocalApicTest, TakesMessages) {
  bus.message(0xfee02000, 0x45);
  EXPECT_EQ(receivers(), 0b0100u);
  bus.message(0xfee01000, 0xc046); // level, assert
  EXPECT_EQ(get(kTmr + 0x20, 1), 1u << 6);
  EXPECT_EQ(receivers(), 0b0010u);
  bus.message(0xfee01000, 0x8046); // level, deassert
  bus.message(0x1fee01000, 0x46);
  bus.message(0xfed01000, 0x46);
  EXPECT_EQ(receivers(), 0u);
  bus.message(0xfee03000, 0x400);
  EXPECT_EQ(signals[3].nmis, 1);
}

TEST_F(LocalApicTest, ChangesModeOnlyAlongTheAllowedWays) {
  const u64 base = kDefaultBase | kBaseBsp;
  EXPECT_FALSE(apic().set_apic_base(base | kBaseX2apic)); // EXTD without EN
  EXPECT_FALSE(apic().set_apic_base(base | kBaseEnable | 1));
  EXPECT_FALSE(apic().set_apic_base(base | kBaseEnable | 1 << 9));
  EXPECT_FALSE(apic().set_apic_base(base | kBaseEnable | 1ull << 40));
  EXPECT_TRUE(apic().set_apic_base(base));
  EXPECT_EQ(apic().page(), std::nullopt);
  EXPECT_FALSE(apic().set_apic_base(base | kBaseEnable | kBaseX2apic)); // from disabled
  EXPECT_TRUE(apic().set_apic_base(base | kBaseEnable));
  EXPECT_TRUE(apic().set_apic_base(base | kBaseEnable | kBaseX2apic));
  EXPECT_EQ(apic().page(), std::nullopt);
  EXPECT_FALSE(apic().set_apic_base(base | kBaseEnable)); // back to xAPIC
  EXPECT_TRUE(apic().set_apic_base(base));
  EXPECT_TRUE(apic().set_apic_base(0xfed00000 | kBaseEnable));
  EXPECT_EQ(apic().page(), Gpa(0xfed00000));
  LocalApic old({.id = 5, .x2apic = false, .tsc_deadline = false}, bus, signals[0], timers, eois);
  EXPECT_FALSE(old.set_apic_base(old.apic_base() | kBaseX2apic));
  old.write(kSvr, 4, 0x1ff);
  old.write(kLvtTimer, 4, 0x40 | 2 << 17);
  EXPECT_EQ(old.read(kLvtTimer, 4), 0x40u);
}

TEST_F(LocalApicTest, X2apicRegistersAreMsrsWithTheirFaults) {
  EXPECT_EQ(rdmsr(kId), std::nullopt); // still xAPIC
  EXPECT_FALSE(wrmsr(kTpr, 0));
  for (unsigned i = 0; i < kCpus; ++i) to_x2apic(i);
  EXPECT_EQ(rdmsr(kId, 3), 3u);
  EXPECT_EQ(rdmsr(kLdr, 3), 8u);
  EXPECT_EQ(rdmsr(kVersion), kVersionValue);
  for (u32 reg : {u32{kId}, u32{kVersion}, u32{kPpr}, u32{kLdr}, u32{kDfr}, u32{kIsr}, u32{kIrr}, u32{kTmr},
                  u32{kIcrHigh}, u32{kCurrentCount}, 0x2f0u, 0x400u, 0xff0u})
    EXPECT_FALSE(wrmsr(reg, 0)) << reg;
  for (u32 reg : {u32{kEoi}, u32{kDfr}, u32{kIcrHigh}, u32{kSelfIpi}, 0x2f0u, 0x000u})
    EXPECT_EQ(rdmsr(reg), std::nullopt) << reg;
  EXPECT_FALSE(wrmsr(kTpr, 0x100));
  EXPECT_FALSE(wrmsr(kEoi, 1));
  EXPECT_FALSE(wrmsr(kEsr, 1));
  EXPECT_TRUE(wrmsr(kEsr, 0));
  EXPECT_FALSE(wrmsr(kSvr, 0x200));
  EXPECT_FALSE(wrmsr(kLvtTimer, 1u << 19));
  EXPECT_FALSE(wrmsr(kLvtTimer, 1ull << 32));
  EXPECT_FALSE(wrmsr(kIcrLow, 1u << 20));
  EXPECT_FALSE(wrmsr(kSelfIpi, 0x100));
  EXPECT_FALSE(wrmsr(kDivide, 4));
  EXPECT_TRUE(wrmsr(kSelfIpi, 0x40));
  EXPECT_EQ(receivers(), 1u);
}

TEST_F(LocalApicTest, X2apicSendsToWideDestinations) {
  for (unsigned i = 0; i < kCpus; ++i) to_x2apic(i);
  EXPECT_TRUE(wrmsr(kIcrLow, 2ull << 32 | 0x40));
  EXPECT_EQ(receivers(), 0b0100u);
  EXPECT_EQ(rdmsr(kIcrLow), 2ull << 32 | 0x40);
  EXPECT_TRUE(wrmsr(kIcrLow, 0xffffffffull << 32 | 0x40));
  EXPECT_EQ(receivers(), 0b1111u);
  EXPECT_TRUE(wrmsr(kIcrLow, 0xffull << 32 | 0x40)); // not a broadcast here
  EXPECT_EQ(receivers(), 0u);
  EXPECT_TRUE(wrmsr(kIcrLow, 0b1010ull << 32 | 0x840));
  EXPECT_EQ(receivers(), 0b1010u);
  EXPECT_TRUE(wrmsr(kIcrLow, 0x1000full << 32 | 0x840)); // another cluster
  EXPECT_EQ(receivers(), 0u);
}

TEST_F(LocalApicTest, InitKeepsModeAndIds) {
  set(kId, 9u << 24);
  set(kTpr, 0x20);
  apic().init();
  EXPECT_EQ(get(kId), 9u << 24);
  EXPECT_EQ(get(kTpr), 0u);
  EXPECT_EQ(get(kSvr), 0xffu);
  to_x2apic(1);
  apic(1).init();
  EXPECT_EQ(rdmsr(kId, 1), 1u);
  EXPECT_EQ(rdmsr(kLdr, 1), 2u);
}

TEST_F(LocalApicTest, TimerRunsOnceWithItsDivider) {
  set(kLvtTimer, 0x80);
  set(kDivide, 0b0011); // by 16
  set(kInitialCount, 1000);
  timers.advance(8000);
  EXPECT_EQ(get(kCurrentCount), 500u);
  set(kDivide, 0b1011); // by 1: 500 counts are left
  timers.advance(499);
  EXPECT_EQ(apic().pending_vector(), std::nullopt);
  timers.advance(1);
  EXPECT_EQ(apic().acknowledge(), 0x80);
  EXPECT_EQ(get(kCurrentCount), 0u);
  set_eoi();
  timers.advance(10'000'000);
  EXPECT_EQ(apic().pending_vector(), std::nullopt);
}

TEST_F(LocalApicTest, TimerRepeatsAndStops) {
  set(kLvtTimer, 0x80 | 1 << 17);
  set(kDivide, 0b1011);
  set(kInitialCount, 1'000'000);
  int seen = 0;
  for (int i = 0; i < 10; ++i) {
    timers.advance(1'000'000);
    seen += receivers() != 0;
  }
  EXPECT_EQ(seen, 10);
  timers.advance(250'000);
  EXPECT_EQ(get(kCurrentCount), 750'000u);
  set(kInitialCount, 0);
  timers.advance(10'000'000);
  EXPECT_EQ(receivers(), 0u);
}

TEST_F(LocalApicTest, AnAbsurdPeriodDoesNotStormTheHost) {
  set(kLvtTimer, 0x80 | 1 << 17);
  set(kDivide, 0b1011);
  set(kInitialCount, 1);
  timers.advance(1'000'000'000);
  EXPECT_LT(signals[0].interrupts, 25'000);
  EXPECT_EQ(receivers(), 1u);
}

TEST_F(LocalApicTest, MaskedTimerRaisesNothing) {
  set(kDivide, 0b1011);
  set(kInitialCount, 100);
  timers.advance(200);
  set(kLvtTimer, 0x80);
  EXPECT_EQ(apic().pending_vector(), std::nullopt);
}

TEST_F(LocalApicTest, TscDeadlineFiresWhenTheTscGetsThere) {
  apic().set_tsc_deadline(5000); // not in this mode: ignored
  EXPECT_EQ(apic().tsc_deadline(), 0u);
  set(kLvtTimer, 0x80 | 2 << 17);
  apic().set_tsc_deadline(5000);
  EXPECT_EQ(apic().tsc_deadline(), 5000u);
  set(kInitialCount, 7);
  EXPECT_EQ(get(kInitialCount), 0u);
  timers.advance(3999);
  EXPECT_EQ(apic().pending_vector(), std::nullopt);
  timers.advance(1);
  EXPECT_EQ(apic().acknowledge(), 0x80);
  EXPECT_EQ(apic().tsc_deadline(), 0u);
  set_eoi();
  apic().set_tsc_deadline(1); // in the past
  timers.advance(0);
  EXPECT_EQ(receivers(), 1u);
  apic().set_tsc_deadline(50'000);
  set(kLvtTimer, 0x80); // leaving the mode disarms
  EXPECT_EQ(apic().tsc_deadline(), 0u);
  timers.advance(100'000);
  EXPECT_EQ(receivers(), 0u);
}

TEST_F(LocalApicTest, RestoresWhatItSaved) {
  set(kTpr, 0x20);
  set(kLvtTimer, 0x80 | 1 << 17);
  set(kInitialCount, 1'000'000);
  fixed(0x61, 0, true);
  fixed(0x51);
  (void)apic().acknowledge();
  set(kIcrHigh, 3u << 24);
  timers.advance(300'000);
  const auto saved = apic().save();
  set_eoi();
  timers.advance(5'000'000);
  apic().reset();
  EXPECT_NE(apic().save(), saved);
  apic().restore(saved);
  EXPECT_EQ(apic().save(), saved);
  EXPECT_EQ(get(kIsr + 0x30), 2u);
  EXPECT_EQ(get(kCurrentCount), 1'000'000u - 150'000u);
  set_eoi();
  (void)apic().acknowledge();
  timers.advance(1'700'000);
  EXPECT_EQ(apic().pending_vector(), 0x80);
}

TEST_F(LocalApicTest, TakesMessagesFromManyThreads) {
  constexpr int kRounds = 2000;
  std::vector<std::jthread> senders;
  for (u8 t = 0; t < 3; ++t)
    senders.emplace_back([this, t] {
      for (int i = 0; i < kRounds; ++i) bus.message(0xfee00000, 0x30u + t * 0x10u);
    });
  std::jthread other([this] {
    for (int i = 0; i < kRounds; ++i) apic(1).write(kIcrLow, 4, 0x60);
  });
  int taken = 0;
  for (int i = 0; i < kRounds; ++i)
    if (apic().pending_vector()) {
      EXPECT_GE(apic().acknowledge(), 0x30);
      set_eoi();
      ++taken;
    }
  senders.clear();
  other.join();
  EXPECT_LE(taken, 4 * kRounds);
  EXPECT_EQ(signals[0].interrupts.load() >= 4 * kRounds, true);
}

} // namespace
} // namespace abyme::soft
