#include "soft/mmu/test_tables.hpp"

namespace abyme::soft::mmu {
namespace {

using namespace x86;
using P = PagedMachine;

constexpr Access kRead{}, kWriteIt{.write = true}, kFetch{.fetch = true}, kUserRead{.user = true},
    kUserWrite{.write = true, .user = true}, kUserFetch{.fetch = true, .user = true}, kSmapRead{.smap = true},
    kSmapWrite{.write = true, .smap = true};

// One change to a mapping with all rights, one access, and the error code; -1: allowed.
struct Case {
  const char *name;
  Paging kind;
  unsigned level;
  u64 clear, add;
  Access access;
  int error;
  std::function<void(Cpu &)> change = [](Cpu &) {};
};

void no_wp(Cpu &cpu) { cpu.cr0 &= ~cr0::WP; }
void no_nx(Cpu &cpu) { cpu.efer &= ~efer::NXE; }
void smep(Cpu &cpu) { cpu.cr4 |= cr4::SMEP; }
void smep_no_nx(Cpu &cpu) { no_nx(cpu), smep(cpu); }
void no_pse(Cpu &cpu) { cpu.cr4 &= ~cr4::PSE; }

constexpr auto N = Paging::Narrow;
constexpr auto A = Paging::Pae;
constexpr auto L = Paging::FourLevel;

const Case kCases[] = {
    {"narrow", N, 1, 0, 0, kUserWrite, -1},
    {"pae", A, 1, 0, 0, kUserFetch, -1},
    {"four-level", L, 1, 0, 0, kUserWrite, -1},
    {"absent page", N, 1, P::kPresent, 0, kRead, 0},
    {"absent page, user write", N, 1, P::kPresent, 0, kUserWrite, 6},
    {"absent table", A, 2, P::kPresent, 0, kWriteIt, 2},
    {"absent top", L, 4, P::kPresent, 0, kUserRead, 4},
    {"absent wins over reserved", L, 1, P::kPresent, 1ull << 51, kRead, 0},
    // The I/D bit only where fetches can be told apart (SDM 3A §4.7).
    {"fetch not reported", N, 1, P::kPresent, 0, kFetch, 0},
    {"fetch reported with SMEP", N, 1, P::kPresent, 0, kFetch, 16, smep},
    {"fetch reported with NXE", L, 1, P::kPresent, 0, kFetch, 16},
    {"fetch without NXE", L, 1, P::kPresent, 0, kFetch, 0, no_nx},
    // U/S and R/W: the AND of all levels.
    {"user at a supervisor page", N, 1, P::kUser, 0, kUserRead, 5},
    {"user under a supervisor table", L, 3, P::kUser, 0, kUserRead, 5},
    {"user write to a read-only page", A, 1, P::kWrite, 0, kUserWrite, 7},
    {"user write under a read-only table", L, 4, P::kWrite, 0, kUserWrite, 7},
    {"user read of a read-only page", L, 1, P::kWrite, 0, kUserRead, -1},
    {"supervisor write to a read-only page", N, 2, P::kWrite, 0, kWriteIt, 3},
    {"the same without WP", N, 2, P::kWrite, 0, kWriteIt, -1, no_wp},
    {"user write without WP", N, 2, P::kWrite, 0, kUserWrite, 7, no_wp},
    // NX, SMEP, SMAP.
    {"fetch from an NX page", L, 1, 0, P::kNoExecute, kFetch, 17},
    {"fetch under an NX table", L, 4, 0, P::kNoExecute, kUserFetch, 21},
    {"read of an NX page", L, 1, 0, P::kNoExecute, kRead, -1},
    {"NX in PAE", A, 2, 0, P::kNoExecute, kFetch, 17},
    {"SMEP", L, 1, 0, 0, kFetch, 17, smep},
    {"SMEP with narrow entries", N, 1, 0, 0, kFetch, 17, smep},
    {"SMEP and a supervisor page", L, 2, P::kUser, 0, kFetch, -1, smep},
    {"SMEP and user code", L, 1, 0, 0, kUserFetch, -1, smep},
    {"SMAP read", L, 1, 0, 0, kSmapRead, 1},
    {"SMAP write", N, 1, 0, 0, kSmapWrite, 3},
    {"SMAP write without WP", N, 1, 0, 0, kSmapWrite, 3, no_wp},
    {"SMAP and a supervisor page", L, 1, P::kUser, 0, kSmapRead, -1},
    // Reserved bits.
    {"NX is reserved without NXE", L, 2, 0, P::kNoExecute, kRead, 9, no_nx},
    {"NX is reserved without NXE, SMEP fetch", L, 2, 0, P::kNoExecute, kUserFetch, 0x1D, smep_no_nx},
    {"address beyond the CPU's", L, 3, 0, 1ull << 51, kRead, 9},
    {"ignored bits", L, 1, 0, 0x7FF0'0000'0000'0E00, kRead, -1},
    {"PAE has them reserved", A, 1, 0, 1ull << 52, kRead, 9},
    {"PAE, bit 62", A, 2, 0, 1ull << 62, kUserWrite, 15},
    {"PS in a PML4 entry", L, 4, 0, P::kLarge, kRead, 9},
    {"2 MiB page", L, 2, 0x1FF000, P::kLarge, kRead, -1},
    {"2 MiB page, bit 13", L, 2, 0x1FF000, P::kLarge | 0x2000, kRead, 9},
    {"2 MiB page, bit 20", A, 2, 0x1FF000, P::kLarge | 0x100000, kWriteIt, 11},
    {"2 MiB page, PAT bit", A, 2, 0x1FF000, P::kLarge | 0x1000, kRead, -1},
    {"1 GiB page", L, 3, 0x3FFFF000, P::kLarge, kRead, -1},
    {"1 GiB page, bit 29", L, 3, 0x3FFFF000, P::kLarge | 1 << 29, kRead, 9},
    {"4 MiB page", N, 2, 0x3FF000, P::kLarge, kUserWrite, -1},
    {"4 MiB page, bit 21", N, 2, 0x3FF000, P::kLarge | 1 << 21, kUserRead, 13},
    {"PS without PSE is ignored", N, 2, 0, P::kLarge, kRead, -1, no_pse},
    {"PAE needs no PSE", A, 2, 0x1FF000, P::kLarge, kRead, -1, no_pse},
};

TEST(Walk, ProtectionsAndReservedBits) {
  PagedMachine m;
  ASSERT_LT(m.cpu.profile->physical_bits, 52u);
  for (const Case &c : kCases) {
    SCOPED_TRACE(c.name);
    m.page(c.kind);
    m.change(c.level, c.clear, c.add);
    c.change(m.cpu);
    Page page;
    const bool ok = walk(m.cpu, P::kLinear + 0x123, c.access, page);
    EXPECT_EQ(ok, c.error < 0);
    if (ok || c.error < 0) continue;
    system::expect_fault(m.cpu, PF, c.error);
    EXPECT_EQ(m.cpu.fault.event.address, P::kLinear + 0x123);
  }
}

TEST(Walk, Translates) {
  struct Translates {
    const char *name;
    Paging kind;
    unsigned level;
    u64 entry, physical;
    bool large, huge;
  };
  constexpr u64 kLow = P::kLinear & 0x3FFFFF;
  const Translates cases[] = {
      {"narrow page", N, 1, 0x345000, 0x345123, false, false},
      {"4 MiB", N, 2, 0x800000 | P::kLarge, 0x800123 | kLow, true, false},
      {"PSE-36", N, 2, 0x800000 | P::kLarge | 5 << 13, 0x5'0080'0123 | kLow, true, false},
      {"PAE page", A, 1, 0x9'8765'4000, 0x9'8765'4123, false, false},
      {"PAE 2 MiB", A, 2, 0x600000 | P::kLarge, 0x603123, true, false},
      {"four-level page", L, 1, 0x9'8765'4000, 0x9'8765'4123, false, false},
      {"1 GiB", L, 3, 0x40000000 | P::kLarge, 0x40403123, true, true},
  };
  PagedMachine m;
  for (const auto &c : cases) {
    SCOPED_TRACE(c.name);
    m.page(c.kind);
    m.set(c.level, c.entry | 7);
    Page page;
    ASSERT_TRUE(walk(m.cpu, P::kLinear + 0x123, kRead, page));
    EXPECT_EQ(page.physical, c.physical);
    EXPECT_EQ(page.large, c.large);
    EXPECT_EQ(page.huge, c.huge);
  }
}

TEST(Walk, WithoutPagingAddressesAreThirtyTwoBitsWide) {
  PagedMachine m;
  m.real_mode();
  Page page;
  ASSERT_TRUE(walk(m.cpu, 0x1'0000'1234, kUserWrite, page));
  EXPECT_EQ(page.physical, 0x1234u);
  EXPECT_TRUE(page.writable);
}

// SDM 3A §4.8: accessed on the way, dirty in the last entry by a write, neither by an access that faults for its
// rights.
TEST(Walk, SetsAccessedAndDirtyWhenDue) {
  PagedMachine m;
  for (const Paging kind : {N, A, L}) {
    m.page(kind);
    Page page;
    m.change(1, P::kWrite, 0);
    EXPECT_FALSE(walk(m.cpu, P::kLinear, kUserWrite, page));
    for (unsigned level = 1; level <= m.top(); level++) EXPECT_EQ(m.get(level) & (P::kAccessed | P::kDirty), 0u);
    m.change(1, 0, P::kWrite);
    ASSERT_TRUE(walk(m.cpu, P::kLinear, kRead, page));
    EXPECT_FALSE(page.writable) << "the first write must still set the dirty bit";
    for (unsigned level = 1; level <= m.top(); level++)
      EXPECT_EQ(m.get(level) & (P::kAccessed | P::kDirty), P::kAccessed);
    ASSERT_TRUE(walk(m.cpu, P::kLinear, kWriteIt, page));
    EXPECT_TRUE(page.writable);
    for (unsigned level = 1; level <= m.top(); level++)
      EXPECT_EQ(m.get(level) & (P::kAccessed | P::kDirty), P::kAccessed | (level == 1 ? P::kDirty : 0));
  }
}

TEST(Walk, LaterWritesNeedNoWalkOnlyWithTheRightToWrite) {
  PagedMachine m;
  m.page(L);
  m.change(1, P::kWrite, P::kDirty | P::kAccessed);
  Page page;
  ASSERT_TRUE(walk(m.cpu, P::kLinear, kRead, page));
  EXPECT_FALSE(page.writable);
  no_wp(m.cpu);
  ASSERT_TRUE(walk(m.cpu, P::kLinear, kRead, page));
  EXPECT_TRUE(page.writable);
  ASSERT_TRUE(walk(m.cpu, P::kLinear, kUserRead, page));
  EXPECT_FALSE(page.writable);
}

TEST(Walk, TablesBeyondMemoryAreAbsent) {
  PagedMachine m;
  m.page(L);
  m.set(3, 0x1'0000'0000 | 7);
  Page page;
  EXPECT_FALSE(walk(m.cpu, P::kLinear, kRead, page));
  system::expect_fault(m.cpu, PF, 0);
}

TEST(Walk, TablesThatPointAtThemselvesEnd) {
  PagedMachine m;
  m.page(L);
  for (u64 i = 0; i < 512; i++) m.store<u64>(P::kTables + i * 8, P::kTables | 7);
  Page page;
  ASSERT_TRUE(walk(m.cpu, 0xFFFF'FFFF'FFFF'F008, kRead, page));
  EXPECT_EQ(page.physical, P::kTables + 8);
}

TEST(Walk, Pdptes) {
  PagedMachine m;
  struct {
    u64 entry;
    bool loads;
  } const cases[] = {{0, true},
                     {0x102001, true},
                     {0x102019, true},
                     {0x102001 | 2, false},
                     {0x102001 | 0x20, false},
                     {0x102001 | 1ull << 63, false},
                     {0x102001 | 1ull << 51, false},
                     {~1ull, true},
                     {0x102E01, true}};
  for (const auto &c : cases) {
    SCOPED_TRACE(c.entry);
    m.page(A);
    m.store<u64>(0x110020 + 16, c.entry);
    u64 loaded[4] = {1, 1, 1, 1};
    m.cpu.fault.kind = Fault::Kind::None;
    EXPECT_EQ(load_pdptes(m.cpu, 0x110020 | 0x18, loaded), c.loads);
    EXPECT_EQ(loaded[2], c.loads ? c.entry : 1);
    EXPECT_EQ(m.cpu.fault.kind, Fault::Kind::None);
  }
}

TEST(Walk, AbsentPdpte) {
  PagedMachine m;
  m.page(A);
  Page page;
  EXPECT_FALSE(walk(m.cpu, 0x4000'0000, kUserRead, page));
  system::expect_fault(m.cpu, PF, 4);
}

} // namespace
} // namespace abyme::soft::mmu
