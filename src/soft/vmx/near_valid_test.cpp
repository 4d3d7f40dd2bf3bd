#include "soft/vmx/test_guest.hpp"
#include <random>

// Near-valid states: a VMCS that can be entered, with one to three bits flipped in one or two fields.
namespace abyme::soft::vmx {
namespace {

class NearValid {
public:
  // What an entry did, whatever the VMCS holds: one of the four outcomes of SDM 3C §27, each with its state.
  void round() {
    restore();
    flip();
    const bool consistent = g_.violated().empty();
    const Outcome outcome = g_.enter();
    if (outcome == Outcome::Next)
      failed_instruction(consistent);
    else if (g_.cpu.vmx_mode == VmxMode::Root)
      back_in_host(consistent);
    else
      in_guest(consistent);
  }
  [[nodiscard]] unsigned entered() const { return entered_; }
  [[nodiscard]] unsigned refused() const { return refused_; }

private:
  void restore() {
    g_.cpu.vmx->vmcs = valid_;
    g_.cpu.fault = {};
    g_.cpu.attention = 0;
    g_.machine.long_mode();
    g_.cpu.cr0 = valid_[Field::HostCr0];
    g_.cpu.cr4 = valid_[Field::HostCr4];
    g_.cpu.vmx_mode = VmxMode::Root;
    g_.cpu.activity = Activity::Active;
    g_.cpu.shadow = 0;
    g_.cpu.nmi_blocked = g_.cpu.nmi_pending = g_.cpu.delivering = false;
    mode_changed(g_.cpu);
  }
  void flip() {
    const unsigned fields = 1 + random_() % 2;
    for (unsigned n = 0; n < fields; n++) {
      const auto f = static_cast<Field>(random_() % x86::kVmcsFields);
      const unsigned bits = 1 + random_() % 3;
      for (unsigned bit = 0; bit < bits; bit++) g_.cpu.vmx->vmcs[f] ^= 1ull << random_() % 64 & x86::describe(f).mask();
    }
  }
  void failed_instruction(bool consistent) {
    refused_++;
    EXPECT_FALSE(consistent);
    const u64 error = g_.get(Field::InstructionError);
    EXPECT_TRUE(error == 7 || error == 8) << error;
    EXPECT_EQ(g_.cpu.vmx_mode, VmxMode::Root);
  }
  // A failed entry, an exit during injection, or a VMX abort.
  void back_in_host(bool consistent) {
    refused_++;
    if (g_.cpu.fault.kind == Fault::Kind::VmxAbort) return;
    EXPECT_EQ(g_.cpu.rip, g_.get(Field::HostRip));
    const u64 reason = g_.get(Field::ExitReason);
    if (reason == 0x8000'0021) {
      EXPECT_FALSE(consistent);
    }
  }
  void in_guest(bool consistent) {
    entered_++;
    EXPECT_TRUE(consistent);
    (void)boundary_events(g_.cpu);
    if (g_.cpu.vmx_mode == VmxMode::NonRoot) (void)intercepts(g_.cpu, TestGuest::op(), Instruction::Cpuid);
    if (g_.cpu.fault.kind == Fault::Kind::VmxAbort) return;
    EXPECT_EQ(g_.cpu.vmx_mode, VmxMode::Root);
    EXPECT_EQ(g_.cpu.rip, g_.get(Field::HostRip));
  }

  TestGuest g_;
  const Vmcs valid_ = g_.cpu.vmx->vmcs;
  std::mt19937_64 random_{2026};
  unsigned entered_ = 0, refused_ = 0;
};

TEST(VmxNearValid, EveryOutcomeLeavesTheStateThatTheManualNames) {
  NearValid near;
  for (unsigned n = 0; n < 20'000 && !::testing::Test::HasFailure(); n++) near.round();
  EXPECT_GT(near.entered(), 1000u);
  EXPECT_GT(near.refused(), 1000u);
}

} // namespace
} // namespace abyme::soft::vmx
