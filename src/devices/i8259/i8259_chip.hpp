#pragma once
#include "base/int.hpp"
#include <optional>

namespace abyme {

// One Intel 8259A (datasheet 231468), in the 8086 mode of a PC. The pair is in pic.hpp.
class I8259Chip {
public:
  struct State {
    u8 requests = 0;        // IRR
    u8 mask = 0;            // IMR
    u8 in_service = 0;      // ISR
    u8 lines = 0;           // levels of the pins
    u8 level_triggered = 0; // ELCR, one bit a pin
    u8 vector_base = 0;
    u8 top = 0;       // the pin with the highest priority
    u8 next_word = 0; // the initialization word that the data port expects: 2, 3 or 4; 0 outside of a sequence
    bool wants_word4 = false;
    bool single = false; // no word 3
    bool auto_eoi = false;
    bool rotate_on_auto_eoi = false;
    bool special_mask = false;
    bool special_nested = false;
    bool read_in_service = false; // which register the command port reads
    bool poll = false;            // the next read is a poll
    bool operator==(const State &) const = default;
  };

  void set_line(unsigned pin, bool level);
  // A cascaded chip's output is withdrawn with its cause, whatever the trigger mode.
  void set_cascade(unsigned pin, bool level);
  // The pin whose request the CPU would be given now.
  [[nodiscard]] std::optional<unsigned> request() const;
  // Takes the pin into service.
  void acknowledge(unsigned pin);
  [[nodiscard]] u8 vector(unsigned pin) const { return static_cast<u8>(s_.vector_base + pin); }

  [[nodiscard]] u8 read_command();
  [[nodiscard]] u8 read_data();
  void write_command(u8 value);
  void write_data(u8 value);
  [[nodiscard]] u8 level_triggered() const { return s_.level_triggered; }
  void set_level_triggered(u8 pins);

  void reset();
  [[nodiscard]] const State &state() const { return s_; }
  void restore(const State &state);

private:
  [[nodiscard]] unsigned rank(unsigned pin) const { return (pin - s_.top) & 7; }
  [[nodiscard]] std::optional<unsigned> highest(u8 pins) const;
  [[nodiscard]] u8 poll();
  void initialize(u8 word1);
  void operate(u8 word2);
  void end_of_interrupt(unsigned pin, bool rotate);

  State s_;
};

} // namespace abyme
