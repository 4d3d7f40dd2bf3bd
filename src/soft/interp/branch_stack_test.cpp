#include "soft/test_code.hpp"

namespace abyme::soft {
namespace {

using namespace x86;
using M = CodeMachine;

// --- branches ---

TEST(Branch, TargetsBeyondTheLimit) {
  const std::pair<const char *, std::vector<u8>> cases[] = {
      {"jmp rel16", {0xE9, 0x00, 0x30}},
      {"jmp rel8", {0xEB, 0x7F}},
      {"jcc", {0x0F, 0x83, 0x00, 0x30}},
      {"call rel16", {0xE8, 0x00, 0x30}},
      {"jmp r16", {0xFF, 0xE3}},
      {"call r16", {0xFF, 0xD3}},
      {"loop", {0xE2, 0x7F}},
      {"jcxz", {0xE3, 0x7F}},
      {"ret", {0xC3}},
  };
  for (const auto &[name, code] : cases) {
    SCOPED_TRACE(name);
    M m;
    m.code16();
    m.cpu.segments[CS].limit = M::kCode + 0x20;
    m.cpu.status = 0;
    m.cpu.gpr[RBX] = 0xD000;
    m.cpu.gpr[RCX] = code[0] == 0xE2 ? 5 : 0;
    m.store<u32>(M::kStack0, 0xE000);
    const u64 rcx = m.cpu.gpr[RCX];
    m.execute(code);
    system::expect_fault(m.cpu, GP, 0);
    EXPECT_EQ(m.cpu.rip, M::kCode);
    EXPECT_EQ(m.cpu.gpr[RSP], M::kStack0);
    EXPECT_EQ(m.cpu.gpr[RCX], rcx);
  }
}

TEST(Branch, OperandSizeTruncatesTheTarget) {
  M m;
  m.code16();
  m.execute({0xE9, 0x00, 0x70}); // C003 + 7000 = 13003
  EXPECT_EQ(m.cpu.rip, 0x3003u);
  m.protected_mode();
  m.cpu.gpr[RBX] = 0x12345678;
  m.execute({0x66, 0xFF, 0xE3});
  EXPECT_EQ(m.cpu.rip, 0x5678u);
  m.execute({0xFF, 0xE3});
  EXPECT_EQ(m.cpu.rip, 0x12345678u);
}

TEST(Branch, NonCanonicalTargets) {
  M m;
  m.long_mode();
  m.cpu.gpr[RBX] = 1ull << 47;
  m.execute({0xFF, 0xE3});
  system::expect_fault(m.cpu, GP, 0);
  m.execute({0xFF, 0xD3});
  system::expect_fault(m.cpu, GP, 0);
  m.store<u64>(M::kStack0, 1ull << 63);
  m.execute({0xC3});
  system::expect_fault(m.cpu, GP, 0);
  EXPECT_EQ(m.cpu.gpr[RSP], M::kStack0);
}

TEST(Branch, CallsAndReturns) {
  M m;
  for (const unsigned size : {2u, 4u, 8u}) {
    SCOPED_TRACE(size);
    size == 2 ? m.code16() : size == 4 ? m.protected_mode() : m.long_mode();
    m.cpu.gpr[RSP] = M::kStack0;
    m.execute(size == 2 ? std::vector<u8>{0xE8, 0x10, 0} : std::vector<u8>{0xE8, 0x10, 0, 0, 0});
    const u64 back = M::kCode + (size == 2 ? 3 : 5);
    EXPECT_EQ(m.cpu.rip, back + 0x10);
    EXPECT_EQ(m.stack(0, size), back);
    EXPECT_EQ(m.cpu.gpr[RSP], M::kStack0 - size);
    m.execute({0xC2, 0x04, 0});
    EXPECT_EQ(m.cpu.rip, back);
    EXPECT_EQ(m.cpu.gpr[RSP], M::kStack0 + 4);
  }
}

// Where the counter's width is the address size's.
TEST(Branch, LoopCounts) {
  M m;
  m.code16();
  m.cpu.gpr[RCX] = 0x10000;
  m.execute({0xE2, 0x10}); // CX wraps to FFFF
  EXPECT_EQ(m.cpu.rip, M::kCode + 0x12);
  EXPECT_EQ(m.cpu.gpr[RCX], 0x1FFFFu);
  m.cpu.gpr[RCX] = 0x10000;
  m.execute({0xE3, 0x10});
  EXPECT_EQ(m.cpu.rip, M::kCode + 0x12) << "JCXZ";
  m.execute({0x67, 0xE3, 0x10});
  EXPECT_EQ(m.cpu.rip, M::kCode + 3) << "JECXZ";
  m.long_mode();
  m.cpu.gpr[RCX] = 0x1'0000'0001;
  m.execute({0x67, 0xE2, 0x10});
  EXPECT_EQ(m.cpu.rip, M::kCode + 3);
  EXPECT_EQ(m.cpu.gpr[RCX], 0u);
}

// --- the stack ---

// With a 16-bit stack only SP moves, and it wraps.
TEST(Stack, SixteenBitStacksWrap) {
  M m;
  m.code16();
  m.cpu.segments[SS] = {.base = 0, .limit = 0xFFFF, .rights = 0x93, .selector = 0x10};
  mode_changed(m.cpu);
  m.cpu.gpr[RSP] = 0x7777'0000;
  m.cpu.gpr[RAX] = 0x12345678;
  m.execute({0x50});
  EXPECT_EQ(m.cpu.gpr[RSP], 0x7777'FFFEu);
  EXPECT_EQ(m.load<u16>(0xFFFE), 0x5678u);
  m.execute({0x66, 0x50});
  EXPECT_EQ(m.cpu.gpr[RSP], 0x7777'FFFAu);
  EXPECT_EQ(m.load<u32>(0xFFFA), 0x12345678u);
  m.cpu.gpr[RSP] = 0x7777'0001;
  m.execute({0x50}); // would lie at FFFF
  system::expect_fault(m.cpu, SS_, 0);
  EXPECT_EQ(m.cpu.gpr[RSP], 0x7777'0001u);
}

TEST(Stack, ThirtyTwoBitStackOfSixteenBitCode) {
  M m;
  m.code16();
  m.cpu.gpr[RSP] = 0x20000;
  m.cpu.gpr[RAX] = 0xABCD;
  m.execute({0x50});
  EXPECT_EQ(m.cpu.gpr[RSP], 0x1FFFEu);
  EXPECT_EQ(m.load<u16>(0x1FFFE), 0xABCDu);
}

TEST(Stack, PushOfTheStackPointerIsItsOldValue) {
  M m;
  m.long_mode();
  m.execute({0x54});
  EXPECT_EQ(m.stack(0), M::kStack0);
  m.execute({0x5C}); // pop rsp
  EXPECT_EQ(m.cpu.gpr[RSP], M::kStack0);
}

// The address of a popped operand uses the stack pointer after the pop (SDM 2B POP).
TEST(Stack, PopToMemoryRelativeToTheStackPointer) {
  M m;
  m.long_mode();
  m.push({0x1234}, 8);
  m.execute({0x8F, 0x04, 0x24}); // pop qword [rsp]
  EXPECT_EQ(m.cpu.gpr[RSP], M::kStack0);
  EXPECT_EQ(m.load<u64>(M::kStack0), 0x1234u);
}

TEST(Stack, PushaAndPopa) {
  M m;
  for (const unsigned size : {2u, 4u}) {
    size == 2 ? m.code16() : m.protected_mode();
    for (u64 r = 0; r < 8; r++)
      if (r != RSP) m.cpu.gpr[r] = 0x1111'0000 + r;
    m.cpu.gpr[RSP] = M::kStack0;
    m.execute({0x60});
    EXPECT_EQ(m.cpu.gpr[RSP], M::kStack0 - 8 * size);
    EXPECT_EQ(m.stack(7, size), (size == 2 ? 0 : 0x1111'0000u) + RAX);
    EXPECT_EQ(m.stack(3, size), M::kStack0) << "SP before the first push";
    for (u64 r = 0; r < 8; r++)
      if (r != RSP) m.cpu.gpr[r] = 0x2222'FFFF;
    m.execute({0x61});
    EXPECT_EQ(m.cpu.gpr[RSP], M::kStack0);
    EXPECT_EQ(m.cpu.gpr[RSI], (size == 2 ? 0x2222'0000 : 0x1111'0000) + RSI);
  }
}

TEST(Stack, FaultsInTheMiddleOfPushaLeaveTheStackPointer) {
  M m;
  m.protected_mode();
  m.cpu.segments[SS].limit = 0xFFFF;
  m.cpu.segments[SS].rights |= 4; // expand-down
  mode_changed(m.cpu);
  m.cpu.gpr[RSP] = 0x10010;
  m.execute({0x60});
  system::expect_fault(m.cpu, SS_, 0);
  EXPECT_EQ(m.cpu.gpr[RSP], 0x10010u);
}

// ENTER copies level - 1 frame pointers, then pushes its own (SDM 2A ENTER).
TEST(Stack, EnterLevels) {
  M m;
  for (const u8 level : {0, 1, 2, 5, 31, 33}) {
    SCOPED_TRACE(level);
    m.long_mode();
    m.cpu.gpr[RBP] = M::kScratch + 0x800;
    for (u64 i = 1; i < 32; i++) m.store<u64>(M::kScratch + 0x800 - i * 8, 0x1000 + i);
    m.execute({0xC8, 0x20, 0, level});
    const unsigned depth = level % 32;
    const u64 frame = M::kStack0 - 8;
    EXPECT_EQ(m.cpu.gpr[RBP], frame);
    EXPECT_EQ(m.load<u64>(frame), M::kScratch + 0x800);
    for (unsigned i = 1; i < depth; i++) EXPECT_EQ(m.load<u64>(frame - i * 8), 0x1000u + i);
    if (depth) {
      EXPECT_EQ(m.load<u64>(frame - depth * 8), frame);
    }
    EXPECT_EQ(m.cpu.gpr[RSP], frame - depth * 8 - 0x20);
    m.execute({0xC9});
    EXPECT_EQ(m.cpu.gpr[RSP], M::kStack0);
    EXPECT_EQ(m.cpu.gpr[RBP], M::kScratch + 0x800);
  }
}

TEST(Stack, EnterFaultsAsAWhole) {
  M m;
  m.long_mode();
  m.cpu.gpr[RBP] = (1ull << 47) + 8;
  m.execute({0xC8, 0, 0, 3});
  system::expect_fault(m.cpu, SS_, 0);
  EXPECT_EQ(m.cpu.gpr[RSP], M::kStack0);
  EXPECT_EQ(m.cpu.gpr[RBP], (1ull << 47) + 8);
}

} // namespace
} // namespace abyme::soft
