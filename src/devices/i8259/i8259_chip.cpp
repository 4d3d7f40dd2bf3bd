#include "devices/i8259/i8259_chip.hpp"

namespace abyme {
namespace {

constexpr u8 bit(unsigned pin) { return static_cast<u8>(1u << pin); }

// Initialization command word 1 and operation command words (datasheet, figures 7 and 8).
constexpr u8 kIcw1 = 1 << 4;
constexpr u8 kIcw1WantsIcw4 = 1 << 0;
constexpr u8 kIcw1Single = 1 << 1;
constexpr u8 kIcw4AutoEoi = 1 << 1;
constexpr u8 kIcw4SpecialNested = 1 << 4;
constexpr u8 kOcw3 = 1 << 3;
constexpr u8 kOcw3Poll = 1 << 2;
constexpr u8 kOcw3ReadEnable = 1 << 1;
constexpr u8 kOcw3SpecialMaskEnable = 1 << 6;
constexpr u8 kOcw2Rotate = 1 << 7;
constexpr u8 kOcw2Specific = 1 << 6;
constexpr u8 kOcw2Eoi = 1 << 5;
constexpr u8 kPollHit = 1 << 7;

} // namespace

void I8259Chip::reset() {
  const u8 lines = s_.lines;
  s_ = {};
  s_.lines = lines;
}

void I8259Chip::restore(const State &state) {
  s_ = state;
  s_.top &= 7;
}

void I8259Chip::set_line(unsigned pin, bool level) {
  const u8 mine = bit(pin);
  const bool rising = level && !(s_.lines & mine);
  s_.lines = static_cast<u8>(level ? s_.lines | mine : s_.lines & ~mine);
  if (rising) s_.requests |= mine;
  if (!level && s_.level_triggered & mine) s_.requests &= ~mine;
}

void I8259Chip::set_cascade(unsigned pin, bool level) {
  set_line(pin, level);
  if (!level) s_.requests &= ~bit(pin);
}

void I8259Chip::set_level_triggered(u8 pins) {
  s_.level_triggered = pins;
  s_.requests = static_cast<u8>((s_.requests & ~pins) | (s_.lines & pins));
}

std::optional<unsigned> I8259Chip::highest(u8 pins) const {
  for (unsigned i = 0; i < 8; ++i) {
    const unsigned pin = (s_.top + i) & 7;
    if (pins & bit(pin)) return pin;
  }
  return std::nullopt;
}

// A request is given when nothing of the same or a higher priority is in service. In special mask mode only a pin's own
// service blocks it; in special fully nested mode the same pin (a cascaded chip) may interrupt itself.
std::optional<unsigned> I8259Chip::request() const {
  const u8 unmasked = s_.requests & ~s_.mask;
  if (s_.special_mask) return highest(unmasked & ~s_.in_service);
  const auto pin = highest(unmasked);
  const auto serving = highest(s_.in_service);
  if (!pin || !serving || rank(*pin) < rank(*serving)) return pin;
  return s_.special_nested && *pin == *serving ? pin : std::nullopt;
}

void I8259Chip::acknowledge(unsigned pin) {
  if (!(s_.level_triggered & bit(pin))) s_.requests &= ~bit(pin);
  if (!s_.auto_eoi)
    s_.in_service |= bit(pin);
  else if (s_.rotate_on_auto_eoi)
    s_.top = (pin + 1) & 7;
}

u8 I8259Chip::poll() {
  s_.poll = false;
  const auto pin = request();
  if (!pin) return 0;
  acknowledge(*pin);
  return static_cast<u8>(kPollHit | *pin);
}

u8 I8259Chip::read_command() {
  if (s_.poll) return poll();
  return s_.read_in_service ? s_.in_service : s_.requests;
}

u8 I8259Chip::read_data() { return s_.poll ? poll() : s_.mask; }

void I8259Chip::write_command(u8 value) {
  if (value & kIcw1) {
    initialize(value);
  } else if (value & kOcw3) {
    s_.poll = value & kOcw3Poll;
    if (value & kOcw3ReadEnable) s_.read_in_service = value & 1;
    if (value & kOcw3SpecialMaskEnable) s_.special_mask = value >> 5 & 1;
  } else {
    operate(value);
  }
}

// ICW1 clears the edge sense, the mask and the modes; the ELCR, which is the chipset's, stays.
void I8259Chip::initialize(u8 word1) {
  const State old = s_;
  s_ = {};
  s_.lines = old.lines;
  s_.level_triggered = old.level_triggered;
  s_.requests = old.lines & old.level_triggered;
  s_.vector_base = old.vector_base;
  s_.wants_word4 = word1 & kIcw1WantsIcw4;
  s_.single = word1 & kIcw1Single;
  s_.next_word = 2;
}

void I8259Chip::write_data(u8 value) {
  const u8 after_cascade = s_.wants_word4 ? 4 : 0;
  switch (s_.next_word) {
  case 0: s_.mask = value; break;
  case 2:
    s_.vector_base = value & 0xf8;
    s_.next_word = s_.single ? after_cascade : 3;
    break;
  case 3: s_.next_word = after_cascade; break; // which pin is cascaded is wired
  default:
    s_.auto_eoi = value & kIcw4AutoEoi;
    s_.special_nested = value & kIcw4SpecialNested;
    s_.next_word = 0;
    break;
  }
}

void I8259Chip::end_of_interrupt(unsigned pin, bool rotate) {
  s_.in_service &= ~bit(pin);
  if (rotate) s_.top = (pin + 1) & 7;
}

// OCW2: its upper three bits are rotate, specific, EOI.
void I8259Chip::operate(u8 word2) {
  const unsigned named = word2 & 7;
  const bool rotate = word2 & kOcw2Rotate, specific = word2 & kOcw2Specific;
  if (word2 & kOcw2Eoi) {
    const auto pin =
        specific ? std::optional(named) : highest(static_cast<u8>(s_.in_service & ~(s_.special_mask ? s_.mask : 0)));
    if (pin) end_of_interrupt(*pin, rotate);
  } else if (specific) {
    if (rotate) s_.top = (named + 1) & 7; // set priority; without it the word means nothing
  } else {
    s_.rotate_on_auto_eoi = rotate;
  }
}

} // namespace abyme
