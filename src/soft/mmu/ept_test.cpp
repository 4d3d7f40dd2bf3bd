#include "soft/mmu/test_tables.hpp"
#include "soft/vmx/test_guest.hpp"

namespace abyme::soft::mmu {
namespace {

using system::TestMachine;

constexpr u64 kR = 1, kW = 2, kX = 4, kXu = 1 << 10, kRwx = 7, kLarge = 0x80, kAccessed = 0x100, kDirty = 0x200,
              kWriteBack = 6 << 3;
constexpr u64 kTables = 0x100000, kGuestPhysical = 0x40'3000, kPage = 0x200000, kLinear = 0x7777'000;
constexpr Access kRead{}, kWriteIt{.write = true}, kFetch{.fetch = true};

// An EPT of four levels for one page.
struct EptMachine : TestMachine {
  EptMachine() {
    profile().vmx_features.set();
    long_mode();
    reset();
  }
  void reset() {
    cpu.ept_enabled = true;
    cpu.ept_mode_based = false;
    cpu.eptp = kTables | 3 << 3 | 6;
    for (unsigned level = 4; level > 1; level--) set(level, table(level - 1) | kRwx);
    set(1, kPage | kRwx | kWriteBack);
    cpu.fault.kind = Fault::Kind::None;
  }
  static u64 table(unsigned level) { return kTables + (4 - level) * 0x1000; }
  static u64 entry_at(unsigned level) { return table(level) + (kGuestPhysical >> (3 + 9 * level) & 0x1FF) * 8; }
  void set(unsigned level, u64 entry) { store<u64>(entry_at(level), entry); }
  u64 get(unsigned level) { return load<u64>(entry_at(level)); }
  void change(unsigned level, u64 clear, u64 add) { set(level, (get(level) & ~clear) | add); }
  bool walk(Access access, EptUse use = EptUse::Data) {
    return ept_walk(cpu, kGuestPhysical + 0x10, access, use, kLinear, page);
  }
  EptPage page;
};

constexpr u64 kLinearValid = 0x80, kTranslation = 0x100;

TEST(Ept, ViolationQualifications) {
  struct {
    const char *name;
    unsigned level;
    u64 clear;
    Access access;
    EptUse use;
    u64 qualification;
  } const cases[] = {
      {"absent, read", 1, kRwx, kRead, EptUse::Data, 1 | kTranslation},
      {"absent table, write", 3, kRwx, kWriteIt, EptUse::Data, 2 | kTranslation},
      {"absent, fetch", 4, kRwx, kFetch, EptUse::Data, 4 | kTranslation},
      {"write to read and execute", 1, kW, kWriteIt, EptUse::Data, 2 | (kR | kX) << 3 | kTranslation},
      {"write under a read-only table", 3, kW | kX, kWriteIt, EptUse::Data, 2 | kR << 3 | kTranslation},
      {"fetch without execute", 2, kX, kFetch, EptUse::Data, 4 | (kR | kW) << 3 | kTranslation},
      {"read of execute-only", 1, kR | kW, kRead, EptUse::Data, 1 | kX << 3 | kTranslation},
      {"read of a table", 1, kRwx, kRead, EptUse::PagingStructure, 1},
      {"write to a table", 1, kW, kWriteIt, EptUse::PagingStructure, 2 | (kR | kX) << 3},
  };
  EptMachine m;
  for (const auto &c : cases) {
    SCOPED_TRACE(c.name);
    m.reset();
    m.change(c.level, c.clear, 0);
    EXPECT_FALSE(m.walk(c.access, c.use));
    EXPECT_EQ(m.cpu.fault.kind, Fault::Kind::EptViolation);
    EXPECT_EQ(m.cpu.fault.qualification, c.qualification | kLinearValid);
    EXPECT_EQ(m.cpu.fault.guest_physical, kGuestPhysical + 0x10);
    EXPECT_EQ(m.cpu.fault.guest_linear, kLinear);
    EXPECT_FALSE(m.cpu.fault.suppress_ve);
  }
}

TEST(Ept, ExecuteOnly) {
  EptMachine m;
  m.change(1, kR | kW, 0);
  EXPECT_TRUE(m.walk(kFetch));
  m.profile().vmx_features.reset(static_cast<size_t>(x86::VmxFeature::ept_execute_only));
  EXPECT_FALSE(m.walk(kFetch));
  EXPECT_EQ(m.cpu.fault.kind, Fault::Kind::EptMisconfig);
}

TEST(Ept, Misconfigurations) {
  struct {
    const char *name;
    unsigned level;
    u64 clear, add;
    bool fails;
  } const cases[] = {
      {"write without read", 1, kR, 0, true},
      {"write without read in a table", 3, kR, 0, true},
      {"PML4 entry, bit 3", 4, 0, 1 << 3, true},
      {"PML4 entry, bit 7", 4, 0, 1 << 7, true},
      {"PDPT entry, bit 6", 3, 0, 1 << 6, true},
      {"PD entry, bit 3", 2, 0, 1 << 3, true},
      {"beyond the CPU's addresses", 2, 0, 1ull << 51, true},
      {"memory type 2", 1, 0x38, 2 << 3, true},
      {"memory type 3", 1, 0x38, 3 << 3, true},
      {"memory type 7", 1, 0x38, 7 << 3, true},
      {"uncacheable", 1, 0x38, 0, false},
      {"write-protect", 1, 0x38, 5 << 3, false},
      {"2 MiB page", 2, 0x1FF000, kLarge | kWriteBack, false},
      {"2 MiB page, bit 12", 2, 0x1FF000, kLarge | kWriteBack | 1 << 12, true},
      {"1 GiB page", 3, 0x3FFFF000, kLarge | kWriteBack, false},
      {"1 GiB page, bit 29", 3, 0x3FFFF000, kLarge | kWriteBack | 1 << 29, true},
      {"ignored bits", 1, 0, 0x7FF0'0000'0000'0800, false},
      {"bit 7 of a page's entry", 1, 0, 1 << 7, false},
      {"execute for users alone, without mode-based control", 1, kRwx, kXu, false},
  };
  EptMachine m;
  for (const auto &c : cases) {
    SCOPED_TRACE(c.name);
    m.reset();
    m.change(c.level, c.clear, c.add);
    const bool ok = m.walk(kRead);
    if (c.fails) {
      EXPECT_FALSE(ok);
    }
    EXPECT_EQ(m.cpu.fault.kind == Fault::Kind::EptMisconfig, c.fails);
  }
}

TEST(Ept, TranslatesLargePages) {
  EptMachine m;
  m.set(2, 0x200000 | kRwx | kWriteBack | kLarge);
  ASSERT_TRUE(m.walk(kRead));
  EXPECT_EQ(m.page.physical, 0x203010u);
  EXPECT_EQ(m.page.shift, 21u);
  m.set(3, kRwx | kWriteBack | kLarge);
  ASSERT_TRUE(m.walk(kRead));
  EXPECT_EQ(m.page.physical, kGuestPhysical + 0x10);
  EXPECT_EQ(m.page.shift, 30u);
}

TEST(Ept, AddressesHaveFortyEightBits) {
  EptMachine m;
  EXPECT_FALSE(ept_walk(m.cpu, 1ull << 48, kRead, EptUse::Data, kLinear, m.page));
  EXPECT_EQ(m.cpu.fault.kind, Fault::Kind::EptViolation);
}

TEST(Ept, AccessedAndDirtyWhenEnabled) {
  EptMachine m;
  ASSERT_TRUE(m.walk(kWriteIt));
  for (unsigned level = 1; level <= 4; level++) EXPECT_EQ(m.get(level) & (kAccessed | kDirty), 0u);
  m.cpu.eptp |= 1 << 6;
  ASSERT_TRUE(m.walk(kRead));
  EXPECT_FALSE(m.page.writable) << "the first write must still set the dirty bit";
  for (unsigned level = 1; level <= 4; level++) EXPECT_EQ(m.get(level) & (kAccessed | kDirty), kAccessed);
  ASSERT_TRUE(m.walk(kWriteIt));
  EXPECT_TRUE(m.page.writable);
  for (unsigned level = 1; level <= 4; level++)
    EXPECT_EQ(m.get(level) & (kAccessed | kDirty), kAccessed | (level == 1 ? kDirty : 0));
}

// SDM 3C §29.3.5: then a read of a guest's paging structure counts as a write.
TEST(Ept, ReadsOfTablesAreWritesWithAccessedAndDirty) {
  EptMachine m;
  m.change(1, kW, 0);
  EXPECT_TRUE(m.walk(kRead, EptUse::PagingStructure));
  m.cpu.eptp |= 1 << 6;
  EXPECT_FALSE(m.walk(kRead, EptUse::PagingStructure));
  EXPECT_EQ(m.cpu.fault.qualification, 3 | (kR | kX) << 3 | kLinearValid);
  m.change(1, 0, kW);
  ASSERT_TRUE(m.walk(kRead, EptUse::PagingStructure));
  EXPECT_EQ(m.get(1) & kDirty, kDirty);
}

TEST(Ept, ModeBasedExecution) {
  EptMachine m;
  m.cpu.ept_mode_based = true;
  for (unsigned level = 2; level <= 4; level++) m.change(level, 0, kXu);
  EXPECT_TRUE(m.walk({.fetch = true, .user = false}));
  EXPECT_FALSE(m.walk({.fetch = true, .user = true}));
  EXPECT_EQ(m.cpu.fault.qualification, 4 | kRwx << 3 | kLinearValid | kTranslation);
  m.change(1, kX, kXu);
  EXPECT_TRUE(m.walk({.fetch = true, .user = true}));
  EXPECT_FALSE(m.walk({.fetch = true, .user = false}));
  EXPECT_EQ(m.cpu.fault.qualification, 4 | (kR | kW) << 3 | 1 << 6 | kLinearValid | kTranslation);
}

TEST(Ept, BitSixtyThreeSuppressesVirtualizationExceptions) {
  EptMachine m;
  m.set(1, 1ull << 63);
  EXPECT_FALSE(m.walk(kRead));
  EXPECT_TRUE(m.cpu.fault.suppress_ve);
}

// The guest's own tables lie in guest-physical memory: a walk of both dimensions.
TEST(Ept, SecondDimensionOfAWalk) {
  vmx::TestGuest g;
  g.enter();
  Page page;
  ASSERT_TRUE(walk(g.cpu, 0x1234, kRead, page));
  EXPECT_EQ(page.physical, 0x1234u);
}

// Loading PDPTEs is not an access through a linear address (SDM 3C table 28-7, bit 7).
TEST(Ept, PdptesHaveNoLinearAddress) {
  EptMachine m;
  u64 pdpte[4];
  m.change(1, kRwx, 0);
  EXPECT_FALSE(load_pdptes(m.cpu, kGuestPhysical, pdpte));
  EXPECT_EQ(m.cpu.fault.kind, Fault::Kind::EptViolation);
  EXPECT_EQ(m.cpu.fault.qualification, 1u);
}

} // namespace
} // namespace abyme::soft::mmu
