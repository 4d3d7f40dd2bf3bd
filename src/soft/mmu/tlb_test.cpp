#include "soft/mmu/fast.hpp"
#include "soft/mmu/test_tables.hpp"

namespace abyme::soft::mmu {
namespace {

using namespace x86;
using P = PagedMachine;

// A machine whose page is remapped behind the TLB's back: what a read then finds tells whether the translation was
// kept.
struct TlbMachine : PagedMachine {
  static constexpr u64 kOld = 0x200000, kNew = 0x280000;
  TlbMachine() {
    page(Paging::FourLevel);
    for (u64 offset = 0; offset < 0x8000; offset += 0x1000) {
      store<u64>(kOld + offset, kOld + offset);
      store<u64>(kNew + offset, kNew + offset);
    }
  }
  u64 read(u64 linear = kLinear, As as = As::Cpl) {
    u64 value = 0;
    EXPECT_TRUE(read_linear(cpu, linear, value, as));
    return value;
  }
  void remap(u64 linear = kLinear) { set(1, kNew | 7, linear); }
  void reset() {
    set(1, kOld | 7);
    cpu.cr4 = cr4::PAE;
    cpu.cr3 = kTables;
    cpu.vpid = 0;
    flush_all(cpu);
  }
  void pcid(u16 value) {
    cpu.cr4 |= cr4::PCIDE;
    cpu.cr3 = kTables | value;
    select_context(cpu);
  }
  void vpid(u16 value) {
    cpu.vpid = value;
    select_context(cpu);
  }
};

TEST(Tlb, KeepsTranslationsUntilTheyAreInvalidated) {
  struct {
    const char *name;
    std::function<void(TlbMachine &)> invalidate;
    bool gone;
  } const cases[] = {
      {"nothing", [](auto &) {}, false},
      {"select_context", [](auto &m) { select_context(m.cpu); }, false},
      {"INVLPG", [](auto &m) { flush_page(m.cpu, P::kLinear + 0x800); }, true},
      {"INVLPG of the page behind", [](auto &m) { flush_page(m.cpu, P::kLinear + 0x1000); }, false},
      {"MOV to CR3", [](auto &m) { flush_context(m.cpu, true); }, true},
      {"MOV to CR4", [](auto &m) { flush_context(m.cpu, false); }, true},
      {"INVPCID 0 of this PCID", [](auto &m) { invalidate_pcid(m.cpu, InvpcidType::Address, 1, P::kLinear); }, true},
      {"INVPCID 1 of this PCID", [](auto &m) { invalidate_pcid(m.cpu, InvpcidType::Context, 1, 0); }, true},
      {"INVPCID 1 of another", [](auto &m) { invalidate_pcid(m.cpu, InvpcidType::Context, 2, 0); }, false},
      {"INVPCID 2", [](auto &m) { invalidate_pcid(m.cpu, InvpcidType::AllWithGlobals, 2, 0); }, true},
      {"INVPCID 3", [](auto &m) { invalidate_pcid(m.cpu, InvpcidType::AllButGlobals, 2, 0); }, true},
      {"INVVPID 0", [](auto &m) { invalidate_vpid(m.cpu, InvvpidType::Address, 5, P::kLinear); }, true},
      {"INVVPID 0 of another VPID", [](auto &m) { invalidate_vpid(m.cpu, InvvpidType::Address, 6, P::kLinear); },
       false},
      {"INVVPID 1", [](auto &m) { invalidate_vpid(m.cpu, InvvpidType::Context, 5, 0); }, true},
      {"INVVPID 1 of another VPID", [](auto &m) { invalidate_vpid(m.cpu, InvvpidType::Context, 6, 0); }, false},
      {"INVVPID 2", [](auto &m) { invalidate_vpid(m.cpu, InvvpidType::All, 0, 0); }, true},
      {"INVVPID 3", [](auto &m) { invalidate_vpid(m.cpu, InvvpidType::ContextButGlobals, 5, 0); }, true},
      {"INVEPT without EPT", [](auto &m) { invalidate_ept(m.cpu, true, 0); }, false},
      {"another VPID and back", [](auto &m) { m.vpid(6), m.vpid(5); }, false},
      {"another PCID and back", [](auto &m) { m.pcid(2), m.pcid(1); }, false},
      {"INVPCID of another's while it is selected",
       [](auto &m) { m.pcid(2), invalidate_pcid(m.cpu, InvpcidType::Context, 1, 0), m.pcid(1); }, true},
  };
  TlbMachine m;
  for (const auto &c : cases) {
    SCOPED_TRACE(c.name);
    m.reset();
    m.pcid(1);
    m.vpid(5);
    ASSERT_EQ(m.read(), TlbMachine::kOld);
    m.remap();
    c.invalidate(m);
    EXPECT_EQ(m.read(), c.gone ? TlbMachine::kNew : TlbMachine::kOld);
  }
}

TEST(Tlb, SpacesAreSeparate) {
  TlbMachine m;
  m.reset();
  m.pcid(1);
  ASSERT_EQ(m.read(), TlbMachine::kOld);
  m.remap();
  m.pcid(2);
  EXPECT_EQ(m.read(), TlbMachine::kNew);
  m.vpid(9);
  m.set(1, TlbMachine::kOld + 0x1000 + 7);
  EXPECT_EQ(m.read(), TlbMachine::kOld + 0x1000);
}

// INVLPG of any address in a large page drops all its pieces (SDM 3A §4.10.4.1).
TEST(Tlb, LargePagesGoAsOne) {
  struct {
    const char *name;
    Paging kind;
    unsigned level;
    u64 size;
  } const cases[] = {
      {"4 MiB", Paging::Narrow, 2, 4_MiB},
      {"2 MiB in PAE", Paging::Pae, 2, 2_MiB},
      {"2 MiB", Paging::FourLevel, 2, 2_MiB},
      {"1 GiB", Paging::FourLevel, 3, 1_GiB},
  };
  TlbMachine m;
  for (const auto &c : cases)
    for (const u64 apart : {u64{0x1000}, u64{0x180000}, c.size - 0x1000}) {
      SCOPED_TRACE(fmt::format("{}, {:#x} apart", c.name, apart));
      m.page(c.kind);
      const u64 start = P::kLinear & ~(c.size - 1), from = start + apart;
      m.set(c.level, 0 | P::kLarge | 7, start);
      m.store<u64>(apart & 0x3FFFFF, 0x1111);
      m.store<u64>(0, 0x2222);
      u64 value = 0;
      const bool there = (apart & ~0x3FFFFFull) == 0;
      ASSERT_TRUE(read_linear(m.cpu, there ? from : start + 0x1000, value));
      if (there) {
        EXPECT_EQ(value, 0x1111u);
      }
      m.set(c.level, 6, start);
      flush_page(m.cpu, there ? start : start + c.size - 0x1000);
      EXPECT_FALSE(read_linear(m.cpu, there ? from : start + 0x1000, value));
      m.page(c.kind);
      m.set(c.level, 0 | P::kLarge | 7, start);
      ASSERT_TRUE(read_linear(m.cpu, start, value));
      m.set(c.level, 6, start);
      flush_page(m.cpu, from);
      EXPECT_FALSE(read_linear(m.cpu, start, value));
    }
}

TEST(Tlb, PrivilegesDoNotShareRights) {
  TlbMachine m;
  m.reset();
  m.change(1, P::kUser, 0);
  ASSERT_EQ(m.read(), TlbMachine::kOld);
  m.cpu.cpl = 3;
  mode_changed(m.cpu);
  u64 value;
  EXPECT_FALSE(read_linear(m.cpu, P::kLinear, value));
  system::expect_fault(m.cpu, PF, 5);
  EXPECT_EQ(m.read(P::kLinear, As::Supervisor), TlbMachine::kOld);
}

// SMAP with AC set or clear, and implicit accesses, which AC does not help (SDM 3A §4.6.1).
TEST(Tlb, SmapFollowsTheFlag) {
  TlbMachine m;
  m.reset();
  m.cpu.cr4 |= cr4::SMAP;
  u64 value;
  for (const bool ac : {true, false, true, false}) {
    set_rflags(m.cpu, ac ? rflags::AC : 0);
    mode_changed(m.cpu);
    EXPECT_EQ(read_linear(m.cpu, P::kLinear, value), ac);
    EXPECT_FALSE(read_linear(m.cpu, P::kLinear, value, As::Supervisor));
    system::expect_fault(m.cpu, PF, 1);
  }
}

// More address spaces than there are numbers: old ones are found again, by walking.
TEST(Tlb, SpacesRunOut) {
  TlbMachine m;
  m.reset();
  for (unsigned round = 0; round < 2; round++)
    for (u16 pcid = 0; pcid < 2000; pcid++) {
      m.set(1, (TlbMachine::kOld + (pcid & 7) * 0x1000) | 7);
      invalidate_pcid(m.cpu, InvpcidType::Context, pcid, 0);
      m.pcid(pcid);
      ASSERT_EQ(m.read(), TlbMachine::kOld + (pcid & 7) * 0x1000);
    }
}

TEST(Tlb, EptSpaces) {
  TlbMachine m;
  m.reset();
  // Two EPTs that map all memory, to itself and crosswise, in 1 GiB pages.
  constexpr u64 kEpt = 0x140000;
  m.profile().vmx_features.set();
  for (const u64 which : {0, 1}) {
    m.store<u64>(kEpt + which * 0x2000, (kEpt + which * 0x2000 + 0x1000) | 7);
    m.store<u64>(kEpt + which * 0x2000 + 0x1000, 0xB7);
  }
  m.cpu.ept_enabled = true;
  m.cpu.vpid = 1;
  m.cpu.eptp = kEpt | 0x1E;
  select_context(m.cpu);
  ASSERT_EQ(m.read(), TlbMachine::kOld);
  m.store<u64>(kEpt + 0x1000, 0);
  invalidate_ept(m.cpu, false, (kEpt + 0x2000) | 0x1E);
  EXPECT_EQ(m.read(), TlbMachine::kOld) << "INVEPT of another EPTP";
  invalidate_ept(m.cpu, false, kEpt | 0x5E);
  u64 value;
  EXPECT_FALSE(read_linear(m.cpu, P::kLinear, value)) << "INVEPT by the address of the top table alone";
  m.cpu.eptp = (kEpt + 0x2000) | 0x1E;
  select_context(m.cpu);
  EXPECT_EQ(m.read(), TlbMachine::kOld);
  m.store<u64>(kEpt + 0x3000, 0);
  invalidate_ept(m.cpu, true, 0);
  EXPECT_FALSE(read_linear(m.cpu, P::kLinear, value));
}

} // namespace
} // namespace abyme::soft::mmu
