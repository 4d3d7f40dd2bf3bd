#include "soft/mmu/fast.hpp"
#include "soft/test_code.hpp"
#include <thread>

namespace abyme::soft {
namespace {

using namespace x86;
using M = CodeMachine;

constexpr u8 kNop = 0x90, kHlt = 0xF4;
// MOV AL, imm
std::vector<u8> mov_al(u8 value) { return {0xB0, value}; }

struct CacheMachine : CodeMachine {
  CacheMachine() { long_mode(); }
  u8 al() { return static_cast<u8>(cpu.gpr[RAX]); }
  void from(u64 rip) { cpu.rip = rip; }
};

TEST(BlockCache, FindsWhatItDecoded) {
  CacheMachine m;
  m.put(M::kCode, {kNop, kNop, 0xEB, 0xFC});
  Block *first = m.blocks().find(m.cpu, false);
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(first->count, 3u);
  EXPECT_EQ(m.blocks().find(m.cpu, false), first);
  EXPECT_NE(m.blocks().find(m.cpu, true), first);
  EXPECT_EQ(m.blocks().find(m.cpu, true)->count, 1u);
  m.compatibility_mode();
  m.from(M::kCode);
  EXPECT_NE(m.blocks().find(m.cpu, false), first) << "the mode is part of the key";
}

TEST(BlockCache, AsksForOtherWritersBeforeAPageBecomesCode) {
  CacheMachine m;
  m.put(M::kCode, {kNop, kHlt});
  ASSERT_NE(m.blocks().find(m.cpu, false), nullptr);
  EXPECT_EQ(m.sync_.retired, std::vector<u64>{M::kCode});
}

// mov byte [rip + to the immediate of the next instruction], 7; mov al, 1
TEST(BlockCache, CodeThatChangesItsOwnBlock) {
  CacheMachine m;
  m.put(M::kCode, {0xC6, 0x05, 1, 0, 0, 0, 7, 0xB0, 1, kHlt});
  for (const u8 expected : {u8{7}, u8{7}}) {
    m.from(M::kCode);
    m.run_block();
    ASSERT_EQ(m.cpu.rip, M::kCode + 7) << "the rest is decoded again";
    m.step();
    EXPECT_EQ(m.al(), expected);
    m.put(M::kCode + 8, {1});
    m.cpu.memory->note_written(Gpa(M::kCode + 8), 1);
    m.blocks().process(m.cpu);
  }
}

TEST(BlockCache, InstructionsAreCountedOnce) {
  CacheMachine m;
  m.put(M::kCode, {0xC6, 0x05, 1, 0, 0, 0, 7, 0xB0, 1, kHlt});
  m.cpu.instructions = 0;
  m.run_block();
  EXPECT_EQ(m.cpu.instructions, 1u);
  m.step();
  EXPECT_EQ(m.cpu.instructions, 2u);
}

// A loop whose other half is a linked block that has been overwritten.
TEST(BlockCache, CodeThatChangesABlockLinkedTo) {
  CacheMachine m;
  m.put(M::kCode, {0xEB, 0x10});                       // jmp +10h
  m.put(M::kCode + 0x12, {0xB0, 1, 0xFF, 0xC1, kHlt}); // mov al, 1; inc ecx
  for (unsigned i = 0; i < 3; i++) {                   // links are made on the way
    m.from(M::kCode);
    m.run_block();
    if (m.cpu.rip == M::kCode + 0x12) m.run_block();
    EXPECT_EQ(m.al(), 1);
  }
  const u8 value = 9;
  ASSERT_TRUE(write_linear(m.cpu, M::kCode + 0x13, value));
  m.from(M::kCode);
  m.run_block();
  if (m.cpu.rip == M::kCode + 0x12) m.step();
  EXPECT_EQ(m.al(), 9);
}

// A device writes by GuestMemory::note_written(), a page that also holds data only where there is code.
TEST(BlockCache, WritesOfDevices) {
  CacheMachine m;
  m.put(M::kCode, mov_al(1));
  m.step();
  EXPECT_EQ(m.al(), 1);
  m.put(M::kCode + 1, {2});
  m.cpu.memory->note_written(Gpa(M::kCode + 1), 1);
  EXPECT_NE(m.cpu.attention.load() & kAttentionCode, 0u);
  m.blocks().process(m.cpu);
  EXPECT_EQ(m.cpu.attention.load() & kAttentionCode, 0u);
  m.from(M::kCode);
  m.step();
  EXPECT_EQ(m.al(), 2);
  m.cpu.memory->note_written(Gpa(M::kCode + 0x800), 64);
  EXPECT_EQ(m.cpu.attention.load() & kAttentionCode, 0u) << "not a line with code";
}

struct StraddlingMachine : CacheMachine {
  // mov eax, imm32 with two bytes in each page, in 4 KiB mappings.
  static constexpr u64 kAt = kCode + 0x1000 - 3, kSecondPage = kCode + 0x1000, kOther = 0xF000, kPt = 0x30000;
  StraddlingMachine() {
    for (u64 i = 0; i < 512; i++) store<u64>(kPt + i * 8, i << 12 | 7);
    store<u64>(kPaging + 0x2000, kPt | 7);
    put(kAt, {0xB8, 1, 0, 0, 0});
    put(kOther, {0, 0x55});
    from(kAt);
  }
};

TEST(BlockCache, InstructionAcrossPages) {
  StraddlingMachine m;
  m.step();
  EXPECT_EQ(m.cpu.gpr[RAX], 1u);
  EXPECT_EQ(m.cpu.rip, M::kCode + 0x1002);
}

TEST(BlockCache, SecondPageIsWritten) {
  StraddlingMachine m;
  m.step();
  const u8 value = 0x33;
  ASSERT_TRUE(write_linear(m.cpu, StraddlingMachine::kSecondPage + 1, value));
  m.from(StraddlingMachine::kAt);
  m.step();
  EXPECT_EQ(m.cpu.gpr[RAX], 0x33000001u);
}

TEST(BlockCache, SecondPageIsMappedElsewhere) {
  StraddlingMachine m;
  m.step();
  m.store<u64>(StraddlingMachine::kPt + 13 * 8, StraddlingMachine::kOther | 7);
  mmu::flush_page(m.cpu, StraddlingMachine::kSecondPage);
  m.from(StraddlingMachine::kAt);
  m.step();
  EXPECT_EQ(m.cpu.gpr[RAX], 0x55000001u);
}

TEST(BlockCache, SecondPageFaults) {
  StraddlingMachine m;
  m.step();
  m.store<u64>(StraddlingMachine::kPt + 13 * 8, 0);
  mmu::flush_page(m.cpu, StraddlingMachine::kSecondPage);
  m.from(StraddlingMachine::kAt);
  m.step();
  system::expect_fault(m.cpu, PF, 0);
  EXPECT_EQ(m.cpu.fault.event.address, StraddlingMachine::kSecondPage);
  EXPECT_EQ(m.cpu.rip, StraddlingMachine::kAt);
}

// A 2 MiB page of code: INVLPG of any address in it ends fetching from all of it.
TEST(BlockCache, LargeCodePagesAreInvalidatedAsOne) {
  CacheMachine m;
  m.put(M::kCode, mov_al(1));
  m.put(0x200000 + M::kCode, mov_al(2));
  m.step();
  m.store<u64>(M::kPaging + 0x2000, 0x200087);
  mmu::flush_page(m.cpu, 0x100000);
  m.from(M::kCode);
  m.step();
  EXPECT_EQ(m.al(), 2);
}

TEST(BlockCache, StartsOverWhenFull) {
  struct : CodeSync {
    void retire_writers(Gpa, Cpu &) override {}
  } sync;
  CacheMachine m;
  BlockCache small(4096, sync);
  for (unsigned i = 0; i < 200; i++) m.put(M::kCode + i * 4, {0xB0, static_cast<u8>(i), 0xEB, 0});
  for (unsigned round = 0; round < 3; round++)
    for (unsigned i = 0; i < 200; i++) {
      m.from(M::kCode + i * 4);
      Block *b = nullptr;
      for (unsigned tries = 0; !b && tries < 2; tries++) b = small.find(m.cpu, true);
      ASSERT_NE(b, nullptr);
      EXPECT_EQ(b->ops[0].imm & 0xFF, i);
    }
}

// Two vCPUs' caches over one memory, as the engine joins them: one executes an instruction over and over while the
// other rewrites it. What it executes never goes back in time, and it sees the last value.
TEST(BlockCache, AnotherThreadRewritesCode) {
  CacheMachine m;
  m.put(M::kCode, {0xB8, 0, 0, 0, 0});
  std::atomic<bool> done = false;
  constexpr u32 kLast = 20'000;
  std::thread writer([&] {
    for (u32 i = 1; i <= kLast; i++) {
      u8 *at = m.cpu.memory->host(Gpa(M::kCode), 5) + 1;
      host_store<u32>(at, i);
      m.cpu.memory->note_written(Gpa(M::kCode + 1), 4);
    }
    done = true;
  });
  u64 before = 0;
  bool backwards = false;
  const auto look = [&] {
    m.blocks().process(m.cpu);
    m.from(M::kCode);
    m.step();
    if (m.cpu.fault.kind == Fault::Kind::Retry) return; // rewritten all the time
    backwards |= m.cpu.gpr[RAX] < before;
    before = m.cpu.gpr[RAX];
  };
  while (!done) look();
  writer.join();
  look();
  EXPECT_FALSE(backwards);
  EXPECT_EQ(before, kLast);
  EXPECT_EQ(m.blocks().posted(), m.blocks().processed());
}

TEST(BlockCache, PostedWorkRetiresWriteTranslations) {
  CacheMachine m;
  const u64 value = 1;
  ASSERT_TRUE(write_linear(m.cpu, M::kScratch, value));
  ASSERT_NE(probe_tlb_write(m.cpu, M::kScratch, 8), nullptr);
  m.blocks().post(m.cpu, {.page = Gpa(M::kScratch), .drop_code = false});
  m.blocks().process(m.cpu);
  EXPECT_EQ(probe_tlb_write(m.cpu, M::kScratch, 8), nullptr);
  EXPECT_NE(probe_tlb_read(m.cpu, M::kScratch, 8), nullptr);
}

} // namespace
} // namespace abyme::soft
