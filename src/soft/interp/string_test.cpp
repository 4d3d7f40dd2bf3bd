#include "soft/test_code.hpp"

namespace abyme::soft {
namespace {

using namespace x86;

constexpr u64 kFrom = 0xD000, kTo = 0xE000;
constexpr u8 kRep = 0xF3, kRepne = 0xF2;

struct StringMachine : CodeMachine {
  StringMachine() { long_mode(); }
  void set(u64 rcx, u64 rsi, u64 rdi, bool down = false) {
    cpu.gpr[RCX] = rcx;
    cpu.gpr[RSI] = rsi;
    cpu.gpr[RDI] = rdi;
    set_rflags(cpu, down ? rflags::DF : 0);
    cpu.fault.kind = Fault::Kind::None;
  }
  void fill(u64 at, unsigned size) {
    for (unsigned i = 0; i < size; i++) store<u8>(at + i, static_cast<u8>(i + 1));
  }
  void expect(u64 rcx, u64 rsi, u64 rdi) {
    EXPECT_EQ(cpu.gpr[RCX], rcx);
    EXPECT_EQ(cpu.gpr[RSI], rsi);
    EXPECT_EQ(cpu.gpr[RDI], rdi);
  }
};

TEST(String, MovesBothWays) {
  StringMachine m;
  m.fill(kFrom, 64);
  m.set(5, kFrom, kTo);
  m.execute({kRep, 0x48, 0xA5});
  m.expect(0, kFrom + 40, kTo + 40);
  EXPECT_EQ(m.load<u64>(kTo + 32), m.load<u64>(kFrom + 32));
  EXPECT_EQ(m.load<u64>(kTo + 40), 0u);
  m.set(3, kFrom + 32, kTo + 64, true);
  m.execute({kRep, 0x66, 0xA5});
  m.expect(0, kFrom + 26, kTo + 58);
  EXPECT_EQ(m.load<u16>(kTo + 60), m.load<u16>(kFrom + 28));
}

// Upwards onto itself the pattern repeats; downwards the source survives.
TEST(String, Overlapping) {
  StringMachine m;
  m.fill(kFrom, 16);
  m.set(13, kFrom, kFrom + 3);
  m.execute({kRep, 0xA4});
  for (unsigned i = 0; i < 16; i++) EXPECT_EQ(m.load<u8>(kFrom + i), i % 3 + 1);
  m.fill(kFrom, 16);
  m.set(8, kFrom + 7, kFrom + 10, true);
  m.execute({kRep, 0xA4});
  for (unsigned i = 0; i < 8; i++) EXPECT_EQ(m.load<u8>(kFrom + 3 + i), i + 1);
  m.fill(kFrom, 16);
  m.set(3, kFrom, kFrom + 2); // elements wider than the distance
  m.execute({kRep, 0xA5});
  EXPECT_EQ(m.load<u32>(kFrom + 2), 0x04030201u);
  EXPECT_EQ(m.load<u32>(kFrom + 6), 0x08070403u);
}

TEST(String, NoCountNoAccess) {
  StringMachine m;
  m.set(0, 1ull << 47, 1ull << 47);
  m.execute({kRep, 0xA4});
  EXPECT_EQ(m.cpu.fault.kind, Fault::Kind::None);
  EXPECT_EQ(m.cpu.rip, CodeMachine::kCode + 2);
}

// A fault leaves the registers at the element that faulted, with what came before done.
TEST(String, FaultsBetweenElements) {
  StringMachine m;
  constexpr u64 kEnd = 0x200000 * 2, kPd = CodeMachine::kPaging + 0x2000;
  m.store<u64>(kPd + 2 * 8, 0);
  mmu::flush_all(m.cpu);
  m.set(8, kFrom, kEnd - 12);
  m.fill(kEnd - 12, 12);
  m.execute({kRep, 0xA5});
  system::expect_fault(m.cpu, PF, 2);
  EXPECT_EQ(m.cpu.fault.event.address, kEnd);
  EXPECT_EQ(m.cpu.rip, CodeMachine::kCode);
  m.expect(5, kFrom + 12, kEnd);
}

TEST(String, EndsForAttentionBetweenElements) {
  StringMachine m;
  for (const u8 opcode : {0xA4, 0xAA, 0xAC, 0xAE}) {
    m.set(5000, kFrom, kTo);
    m.cpu.gpr[RAX] = opcode;
    m.cpu.need(kAttentionInterrupt);
    m.execute({opcode == 0xAE ? kRepne : kRep, opcode});
    EXPECT_EQ(m.cpu.rip, CodeMachine::kCode);
    EXPECT_LT(m.cpu.gpr[RCX], 5000u);
    EXPECT_GT(m.cpu.gpr[RCX], 0u);
    const u64 done = 5000 - m.cpu.gpr[RCX];
    m.expect(5000 - done, opcode == 0xA4 || opcode == 0xAC ? kFrom + done : kFrom, opcode == 0xAC ? kTo : kTo + done);
    m.cpu.attention = 0;
  }
}

TEST(String, ComparesUntil) {
  StringMachine m;
  m.fill(kFrom, 16);
  m.fill(kTo, 16);
  m.store<u8>(kTo + 6, 0xFF);
  m.set(16, kFrom, kTo);
  m.execute({kRep, 0xA6}); // repe cmpsb
  m.expect(9, kFrom + 7, kTo + 7);
  EXPECT_FALSE(rflags(m.cpu) & rflags::ZF);
  EXPECT_TRUE(rflags(m.cpu) & rflags::CF);
  m.set(16, 0, kFrom);
  m.cpu.gpr[RAX] = 4;
  m.execute({kRepne, 0xAE});
  m.expect(12, 0, kFrom + 4);
  EXPECT_TRUE(rflags(m.cpu) & rflags::ZF);
  m.set(2, 0, kFrom);
  m.execute({kRepne, 0xAE});
  m.expect(0, 0, kFrom + 2);
  EXPECT_FALSE(rflags(m.cpu) & rflags::ZF);
}

TEST(String, StoresOfEverySize) {
  StringMachine m;
  m.cpu.gpr[RAX] = 0x1122334455667788;
  const std::pair<unsigned, std::vector<u8>> sizes[] = {
      {1, {kRep, 0xAA}}, {2, {0x66, kRep, 0xAB}}, {4, {kRep, 0xAB}}, {8, {kRep, 0x48, 0xAB}}};
  for (const auto &[size, code] : sizes) {
    for (unsigned i = 0; i < 16; i++) m.store<u64>(kTo + i * 8, 0);
    m.set(7, 0, kTo + 1);
    m.execute(code);
    m.expect(0, 0, kTo + 1 + 7 * size);
    for (unsigned i = 0; i < 7; i++) {
      u64 value = 0;
      EXPECT_TRUE(m.cpu.memory->read(Gpa(kTo + 1 + i * size), &value, size));
      EXPECT_EQ(value, m.cpu.gpr[RAX] & (~0ull >> (64 - size * 8)));
    }
    EXPECT_EQ(m.load<u8>(kTo + 1 + 7 * size), 0);
    EXPECT_EQ(m.load<u8>(kTo), 0);
  }
}

// 16-bit addresses wrap, and only the low halves of the registers count or change.
TEST(String, WrapsWithSixteenBitAddresses) {
  StringMachine m;
  m.real_code();
  m.fill(0xFFFE, 2);
  m.store<u16>(0, 0x0403);
  m.set(0xABCD'0004, 0x1234'FFFE, 0x5678'0100 + kTo);
  m.execute({kRep, 0xA4});
  m.expect(0xABCD'0000, 0x1234'0002, 0x5678'0104 + kTo);
  EXPECT_EQ(m.load<u32>((kTo + 0x100)), 0x04030201u);
  m.set(3, 0, 1, true);
  m.cpu.gpr[RAX] = 0xAA;
  m.execute({kRep, 0xAA});
  m.expect(0, 0, 0xFFFE);
  EXPECT_EQ(m.load<u8>(0xFFFF), 0xAA);
}

// A word at offset FFFFh does not fit into the segment.
TEST(String, WordAcrossTheLimit) {
  StringMachine m;
  m.real_code();
  m.set(2, 0, 0xFFFD);
  m.execute({kRep, 0xAB});
  system::expect_fault(m.cpu, GP, 0);
  m.expect(1, 0, 0xFFFF);
}

TEST(String, SegmentOverrideMovesTheSourceAlone) {
  StringMachine m;
  m.protected_mode();
  m.cpu.segments[FS].base = 0x1000;
  mode_changed(m.cpu);
  m.store<u32>(kFrom + 0x1000, 0xAABBCCDD);
  m.set(1, kFrom, kTo);
  m.execute({0x64, 0xA5});
  EXPECT_EQ(m.load<u32>(kTo), 0xAABBCCDDu);
}

TEST(String, ThirtyTwoBitAddressesClearUpperHalves) {
  StringMachine m;
  m.set(0xFFFF'FFFF'0000'0002, 0xFFFF'FFFF'0000'0000 | kFrom, 0x1'0000'0000 | kTo);
  m.execute({0x67, kRep, 0xA4});
  m.expect(0, kFrom + 2, kTo + 2);
}

} // namespace
} // namespace abyme::soft
