#pragma once
#include "base/int.hpp"

namespace abyme {

struct CalendarTime {
  unsigned year = 1970, month = 1, day = 1; // month and day from 1
  unsigned hour = 0, minute = 0, second = 0;
  unsigned weekday = 4; // 0 is Sunday
  bool operator==(const CalendarTime &) const = default;
};

// Proleptic Gregorian, from seconds since 1970 and back. Fields out of range count on into the next larger one.
[[nodiscard]] CalendarTime to_calendar(i64 seconds);
[[nodiscard]] i64 from_calendar(const CalendarTime &time);

} // namespace abyme
