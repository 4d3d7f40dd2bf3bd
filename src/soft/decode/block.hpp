#pragma once
#include "soft/op.hpp"

namespace abyme::soft {

struct CodePage;

// A run of decoded instructions that starts at one place of a physical page and ends with the page, a branch, or an instruction that may
// change what code means. `count` instructions, then one op that leads on to the next block.
struct Block {
  Block *next;         // in its page's chain of equal hash
  CodePage *page;
  CodePage *second;    // where an instruction lies across the page's end, the page with its other bytes; such a block is one instruction
  u32 mode;            // Cpu::mode it was decoded for, perhaps with kModeSingle
  u16 offset;          // of the first byte in its page
  u16 bytes;
  u32 count;
  Op ops[];
};

// One instruction only: for stepping while something must be looked at after each (see run loop).
constexpr u32 kModeSingle = 1u << 31;

struct CodePage {
  u64 physical;
  Block *slots[64];
  [[nodiscard]] static unsigned hash(u64 offset) { return (offset ^ offset >> 6) & 63; }
  [[nodiscard]] Block *find(u16 offset, u32 mode) const {
    Block *b = slots[hash(offset)];
    while (b && (b->offset != offset || b->mode != mode)) b = b->next;
    return b;
  }
};

} // namespace abyme::soft
