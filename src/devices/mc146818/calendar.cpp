#include "devices/mc146818/calendar.hpp"
#include <chrono>

namespace abyme {

using namespace std::chrono;

CalendarTime to_calendar(i64 seconds) {
  const sys_seconds at{std::chrono::seconds(seconds)};
  const sys_days day = floor<days>(at);
  const year_month_day date(day);
  const hh_mm_ss time(at - day);
  return {.year = static_cast<unsigned>(static_cast<int>(date.year())),
          .month = static_cast<unsigned>(date.month()),
          .day = static_cast<unsigned>(date.day()),
          .hour = static_cast<unsigned>(time.hours().count()),
          .minute = static_cast<unsigned>(time.minutes().count()),
          .second = static_cast<unsigned>(time.seconds().count()),
          .weekday = weekday(day).c_encoding()};
}

i64 from_calendar(const CalendarTime &time) {
  const unsigned months = time.month == 0 ? 0 : time.month - 1;
  const year_month_day first(year(static_cast<int>(time.year + months / 12)), month(months % 12 + 1), day(1));
  const sys_seconds midnight = sys_days(first) + days(static_cast<int>(time.day) - 1);
  return (midnight + hours(time.hour) + minutes(time.minute) + seconds(time.second)).time_since_epoch().count();
}

} // namespace abyme
