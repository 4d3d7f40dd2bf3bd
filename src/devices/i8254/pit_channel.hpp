#pragma once
#include "base/clock.hpp"
#include <optional>

namespace abyme {

// One counter of an Intel 8254 (datasheet 231164). It counts by arithmetic on the clock: nothing runs while nobody
// looks.
class PitChannel {
public:
  static constexpr u64 kHertz = 1'193'182;
  struct State {
    u8 control = 0;          // access (bits 5:4), mode (3:1) and BCD (0), as last written
    bool programmed = false; // a control word and a whole count have been written
    u32 reload = 0;          // 1 to 65536
    bool gate = true;
    bool counting = false;
    u64 counted = 0;       // ticks before `start`, or while not counting
    Nanoseconds start = 0; // since when it counts
    u8 write_low = 0;
    bool write_high_next = false, read_high_next = false;
    std::optional<u16> latched_count{};
    std::optional<u8> latched_status{};
    bool operator==(const State &) const = default;
  };

  void write_control(u8 value);
  void write_count(u8 value, Nanoseconds now);
  [[nodiscard]] u8 read(Nanoseconds now);
  void latch_count(Nanoseconds now);
  void latch_status(Nanoseconds now);
  void set_gate(bool level, Nanoseconds now);
  [[nodiscard]] bool gate() const { return s_.gate; }
  [[nodiscard]] bool output(Nanoseconds now) const;
  // When the output next rises after `now`; nothing if it never does.
  [[nodiscard]] std::optional<Nanoseconds> next_rise(Nanoseconds now) const;

  [[nodiscard]] const State &state() const { return s_; }
  void restore(const State &state);

private:
  [[nodiscard]] unsigned mode() const;
  [[nodiscard]] unsigned access() const { return s_.control >> 4 & 3; }
  [[nodiscard]] bool periodic() const { return mode() == 2 || mode() == 3; }
  [[nodiscard]] u64 ticks(Nanoseconds now) const; // since the count was loaded
  [[nodiscard]] u16 count(Nanoseconds now) const; // what the counting element shows, in BCD where so programmed
  void load(u32 reload, Nanoseconds now);
  void restart(Nanoseconds now);

  State s_;
};

} // namespace abyme
