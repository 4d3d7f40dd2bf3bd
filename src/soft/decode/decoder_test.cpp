#include "soft/decode/decoder.hpp"
#include "soft/test_code.hpp"

namespace abyme::soft {
namespace {

using namespace x86;

enum class Bits : u8 { Code16, Code32, Code64 };

void enter(CodeMachine &m, Bits bits) {
  switch (bits) {
  case Bits::Code16: return m.code16();
  case Bits::Code32: return m.protected_mode();
  case Bits::Code64: return m.long_mode();
  }
}

// Flat segments need no look: only another base shows which one an operand takes.
void separate_segments(CodeMachine &m) {
  for (const u8 s : {ES, SS, DS, FS, GS}) m.cpu.segments[s].base = 0x1000u * (s + 1);
  mode_changed(m.cpu);
}

Op decode(CodeMachine &m, std::vector<u8> bytes) {
  bytes.resize(15);
  Op op{};
  Extent extent;
  EXPECT_EQ(Decoder(m.cpu).decode(m.cpu, bytes.data(), bytes.size(), 0, op, extent), Decoded::Instruction);
  return op;
}

constexpr u8 kNone = Op::kZeroSlot, kFlat = Op::kFlat;
constexpr u8 slot(Gpr r) { return static_cast<u8>(r * 8); }

TEST(Decoder, MemoryOperands) {
  struct {
    const char *name;
    Bits bits;
    std::vector<u8> bytes;
    u8 base, index, scale;
    i32 disp;
    u8 segment, address_size;
  } const cases[] = {
      // 8B: MOV r, r/m. 16-bit addresses, SDM 2A table 2-1.
      {"[bx+si]", Bits::Code16, {0x8B, 0x00}, slot(RBX), slot(RSI), 0, 0, DS, 2},
      {"[bp+di]", Bits::Code16, {0x8B, 0x03}, slot(RBP), slot(RDI), 0, 0, SS, 2},
      {"[bp-1]", Bits::Code16, {0x8B, 0x46, 0xFF}, slot(RBP), kNone, 0, -1, SS, 2},
      {"[disp16]", Bits::Code16, {0x8B, 0x06, 0xDC, 0x0C}, kNone, kNone, 0, 0x0CDC, DS, 2},
      {"es:[bx]", Bits::Code16, {0x26, 0x8B, 0x07}, slot(RBX), kNone, 0, 0, ES, 2},
      {"[eax*4+ebp] by 67", Bits::Code16, {0x67, 0x8B, 0x44, 0x85, 0}, slot(RBP), slot(RAX), 2, 0, SS, 4},
      // 32-bit addresses, table 2-2.
      {"[ebp+8]", Bits::Code32, {0x8B, 0x45, 8}, slot(RBP), kNone, 0, 8, SS, 4},
      {"[esp]", Bits::Code32, {0x8B, 0x04, 0x24}, slot(RSP), kNone, 0, 0, SS, 4},
      {"ds:[esp]", Bits::Code32, {0x3E, 0x8B, 0x04, 0x24}, slot(RSP), kNone, 0, 0, DS, 4},
      {"[disp32]", Bits::Code32, {0x8B, 0x05, 0x78, 0x56, 0x34, 0x12}, kNone, kNone, 0, 0x12345678, DS, 4},
      {"[ebp*2+disp32] is not the stack's",
       Bits::Code32,
       {0x8B, 0x04, 0x6D, 0, 0, 0, 0},
       kNone,
       slot(RBP),
       1,
       0,
       DS,
       4},
      {"[bx] by 67", Bits::Code32, {0x67, 0x8B, 0x07}, slot(RBX), kNone, 0, 0, DS, 2},
      {"gs:[eax]", Bits::Code32, {0x65, 0x8B, 0x00}, slot(RAX), kNone, 0, 0, GS, 4},
      // 64-bit mode.
      {"[r13]", Bits::Code64, {0x41, 0x8B, 0x45, 0}, slot(R13), kNone, 0, 0, kFlat, 8},
      {"[r12+r12*8]", Bits::Code64, {0x43, 0x8B, 0x04, 0xE4}, slot(R12), slot(R12), 3, 0, kFlat, 8},
      {"[rip+1]", Bits::Code64, {0x8B, 0x05, 1, 0, 0, 0}, Op::kRipSlot, kNone, 0, 7, kFlat, 8},
      {"[disp32] by SIB", Bits::Code64, {0x8B, 0x04, 0x25, 0, 0, 0, 0x80}, kNone, kNone, 0, INT32_MIN, kFlat, 8},
      {"fs:[rax]", Bits::Code64, {0x64, 0x8B, 0x00}, slot(RAX), kNone, 0, 0, FS, 8},
      {"es:[rax] has no base", Bits::Code64, {0x26, 0x8B, 0x00}, slot(RAX), kNone, 0, 0, kFlat, 8},
      {"[eax]", Bits::Code64, {0x67, 0x8B, 0x00}, slot(RAX), kNone, 0, 0, kFlat, 4},
  };
  for (const auto &c : cases) {
    SCOPED_TRACE(c.name);
    CodeMachine m;
    enter(m, c.bits);
    separate_segments(m);
    const Op op = decode(m, c.bytes);
    EXPECT_TRUE(op.flags & kOpMemory);
    EXPECT_EQ(op.base, c.base);
    EXPECT_EQ(op.index, c.index);
    EXPECT_EQ(op.scale, c.scale);
    EXPECT_EQ(op.disp, c.disp);
    EXPECT_EQ(op.segment, c.segment);
    EXPECT_EQ(op.address_size, c.address_size);
  }
}

// MOV with an absolute address: its width is the address size's, and it is not sign-extended.
TEST(Decoder, AbsoluteAddresses) {
  CodeMachine m;
  m.code16();
  m.cpu.segments[ES].base = 0x10000;
  mode_changed(m.cpu);
  m.store<u8>(0x1FCDC, 0x5A);
  m.execute({0x26, 0xA0, 0xDC, 0xFC}); // mov al, es:[0xFCDC]
  EXPECT_EQ(m.cpu.fault.kind, Fault::Kind::None);
  EXPECT_EQ(m.cpu.gpr[RAX] & 0xFF, 0x5Au);
  m.protected_mode();
  m.store<u32>(0x280000, 0x11223344);
  m.execute({0xA1, 0, 0, 0x28, 0});
  EXPECT_EQ(m.cpu.gpr[RAX], 0x11223344u);
  m.cpu.gpr[RAX] = 0x99;
  m.execute({0x67, 0xA2, 0x00, 0x90}); // mov [0x9000], al with a 16-bit address
  EXPECT_EQ(m.load<u8>(0x9000), 0x99u);
  m.long_mode();
  m.execute({0x48, 0xA1, 0, 0, 0x28, 0, 0, 0, 0, 0});
  EXPECT_EQ(m.cpu.gpr[RAX], 0x11223344u);
  m.execute({0xA1, 0, 0, 0, 0, 0, 0x80, 0, 0}); // not canonical
  system::expect_fault(m.cpu, GP, 0);
}

TEST(Decoder, HighByteRegisters) {
  CodeMachine m;
  m.long_mode();
  EXPECT_EQ(decode(m, {0x88, 0xE7}).reg, slot(RAX) + 1); // mov bh, ah
  EXPECT_EQ(decode(m, {0x88, 0xE7}).rm, slot(RBX) + 1);
  EXPECT_EQ(decode(m, {0x40, 0x88, 0xE7}).reg, slot(RSP)); // mov dil, spl
  EXPECT_EQ(decode(m, {0x40, 0x88, 0xE7}).rm, slot(RDI));
  EXPECT_EQ(decode(m, {0x44, 0x88, 0xC8}).reg, slot(R9)); // mov al, r9b
  EXPECT_EQ(decode(m, {0xB7, 1}).rm, slot(RBX) + 1);      // mov bh, 1
  EXPECT_EQ(decode(m, {0x41, 0xB7, 1}).rm, slot(R15));
}

TEST(Decoder, OperandSizes) {
  struct {
    Bits bits;
    std::vector<u8> bytes;
    u8 size;
  } const cases[] = {
      {Bits::Code16, {0x50}, 2},
      {Bits::Code16, {0x66, 0x50}, 4},
      {Bits::Code32, {0x50}, 4},
      {Bits::Code32, {0x66, 0x50}, 2},
      {Bits::Code64, {0x50}, 8},
      {Bits::Code64, {0x66, 0x50}, 2},
      {Bits::Code64, {0x89, 0xC0}, 4},
      {Bits::Code64, {0x48, 0x89, 0xC0}, 8},
      {Bits::Code64, {0x66, 0x48, 0x89, 0xC0}, 8},
      {Bits::Code16, {0x89, 0xC0}, 2},
  };
  for (const auto &c : cases) {
    CodeMachine m;
    enter(m, c.bits);
    EXPECT_EQ(decode(m, c.bytes).size, c.size) << fmt::format("{:02x}", fmt::join(c.bytes, " "));
  }
}

TEST(Decoder, WhatIsNoInstruction) {
  struct {
    const char *name;
    Bits bits;
    std::vector<u8> bytes;
    u8 vector;
  } const cases[] = {
      {"PUSH ES in 64-bit mode", Bits::Code64, {0x06}, UD},
      {"DAA in 64-bit mode", Bits::Code64, {0x27}, UD},
      {"UD2", Bits::Code64, {0x0F, 0x0B}, UD},
      {"UD1", Bits::Code32, {0x0F, 0xB9, 0xC0}, UD},
      {"LOCK with a register destination", Bits::Code64, {0xF0, 0x01, 0xC0}, UD},
      {"LOCK MOV", Bits::Code64, {0xF0, 0x89, 0x03}, UD},
      {"LOCK BT", Bits::Code32, {0xF0, 0x0F, 0xA3, 0x03}, UD},
      {"LOCK CMP", Bits::Code32, {0xF0, 0x39, 0x03}, UD},
      {"LOCK NOP", Bits::Code64, {0xF0, 0x90}, UD},
      {"LEA of a register", Bits::Code64, {0x8D, 0xC0}, UD},
      {"LDS in 64-bit mode (a short VEX)", Bits::Code64, {0xC5, 0xFF, 0xFF, 0xFF}, UD},
      {"16 bytes",
       Bits::Code64,
       {0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90},
       GP},
  };
  for (const auto &c : cases) {
    SCOPED_TRACE(c.name);
    CodeMachine m;
    enter(m, c.bits);
    m.cpu.gpr[RBX] = CodeMachine::kScratch;
    m.execute(c.bytes);
    system::expect_fault(m.cpu, c.vector, c.vector == GP ? 0 : -1);
    EXPECT_EQ(m.cpu.rip, CodeMachine::kCode);
  }
}

TEST(Decoder, FifteenBytesAreAnInstruction) {
  CodeMachine m;
  m.long_mode();
  m.execute({0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90});
  EXPECT_EQ(m.cpu.fault.kind, Fault::Kind::None);
  EXPECT_EQ(m.cpu.rip, CodeMachine::kCode + 15);
}

// LOCK with what may have it changes memory as the plain instruction does, aligned or not.
TEST(Decoder, LockedInstructions) {
  CodeMachine m;
  m.long_mode();
  for (const u64 at : {CodeMachine::kScratch, CodeMachine::kScratch + 0xFFD}) {
    m.cpu.gpr[RBX] = at;
    m.store<u64>(at, 5);
    m.cpu.gpr[RCX] = 3;
    m.execute({0xF0, 0x48, 0x01, 0x0B}); // lock add [rbx], rcx
    EXPECT_EQ(m.load<u64>(at), 8u);
    m.execute({0xF0, 0x48, 0x0F, 0xC1, 0x0B}); // lock xadd
    EXPECT_EQ(m.load<u64>(at), 11u);
    EXPECT_EQ(m.cpu.gpr[RCX], 8u);
    m.execute({0xF0, 0x48, 0x0F, 0xBA, 0x2B, 40}); // lock bts [rbx], 40
    EXPECT_EQ(m.load<u64>(at), 11u | 1ull << 40);
    m.execute({0xF0, 0xF7, 0x1B}); // lock neg dword
    EXPECT_EQ(m.load<u32>(at), static_cast<u32>(-11));
  }
}

} // namespace
} // namespace abyme::soft
