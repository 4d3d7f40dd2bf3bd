#pragma once
#include "soft/system/descriptor.hpp"
#include <array>

namespace abyme::soft::system {

// A stack that is being built: the current one, or that of a more privileged level whose SS is not loaded yet.
struct StackPlace {
  x86::Segment ss;
  u64 sp = 0;
  u8 cpl = 0;        // of the code that will own the frame
  u32 error = 0;     // of the #SS when there is no room
  bool flat = false; // 64-bit mode: no base, no limit, canonical addresses

  [[nodiscard]] u64 mask() const { return flat ? ~0ull : ss.big() ? 0xFFFFFFFF : 0xFFFF; }
};

[[nodiscard]] StackPlace current_stack(const Cpu &cpu, u32 error);

// Items to be pushed, collected first and then written all or none.
class Frame {
public:
  explicit Frame(unsigned item_size) : item_size_(item_size) {}
  void push(u64 value) { items_[count_++] = value; }
  // Writes the frame below place.sp and moves place.sp there. False: cpu.fault, nothing written.
  [[nodiscard]] bool write(Cpu &cpu, StackPlace &place) const;
  // Whether it fits: #SS(place.error) else.
  [[nodiscard]] bool fits(Cpu &cpu, const StackPlace &place) const;

private:
  [[nodiscard]] u64 offset_of(const StackPlace &place, unsigned item) const {
    return (place.sp - (item + 1) * item_size_) & place.mask();
  }
  unsigned item_size_;
  unsigned count_ = 0;
  std::array<u64, 48> items_; // 31 parameters of a call gate, two return pointers, and what V86 mode adds
};

// Pops from the current stack: nothing moves until commit().
class Popper {
public:
  Popper(Cpu &cpu, unsigned item_size);
  [[nodiscard]] bool pop(u64 &value);
  [[nodiscard]] bool pop_selector(u16 &selector);
  void skip(u64 bytes) { sp_ += bytes; }
  [[nodiscard]] u64 sp() const { return sp_; }
  // Loads SP, ESP or RSP as the current stack's width is.
  void commit();

private:
  Cpu &cpu_;
  unsigned item_size_;
  u64 mask_, sp_;
};

[[nodiscard]] u64 stack_mask(const Cpu &cpu);
// Replaces those bits of RSP that `mask` covers; a 32-bit write clears the upper half.
void set_sp(Cpu &cpu, u64 value, u64 mask);
// Whether [offset, offset + size) lies within a data segment's limit, expand-down ones included (SDM 3A §5.3).
[[nodiscard]] bool within_limit(const x86::Segment &segment, u64 offset, u64 size);

} // namespace abyme::soft::system
