#include "devices/mc146818/rtc.hpp"
#include "devices/mc146818/calendar.hpp"
#include <algorithm>

namespace abyme {
namespace {

constexpr u16 kPort = 0x70;
constexpr Nanoseconds kSecond = 1'000'000'000;
constexpr Nanoseconds kUpdateWarning = 244'000; // UIP rises this long before an update (datasheet, update cycle)
constexpr i64 kDay = 86'400;
constexpr i64 kFarthest = 500'000'000'000; // seconds from now that a calendar can still name

enum Register : u8 {
  kSeconds = 0,
  kSecondsAlarm = 1,
  kMinutes = 2,
  kMinutesAlarm = 3,
  kHours = 4,
  kHoursAlarm = 5,
  kWeekday = 6,
  kDayOfMonth = 7,
  kMonth = 8,
  kYear = 9,
  kA = 0xa,
  kB = 0xb,
  kC = 0xc,
  kD = 0xd,
  kCentury = 0x32,
};
constexpr u8 kUip = 0x80, kDividerOn = 0x20, kDividerMask = 0x70, kRateMask = 0x0f;               // A
constexpr u8 kSet = 0x80, kPie = 0x40, kAie = 0x20, kUie = 0x10, kBinary = 0x04, k24Hours = 0x02; // B
constexpr u8 kIrqf = 0x80, kPf = 0x40, kAf = 0x20, kUf = 0x10;                                    // C
constexpr u8 kValid = 0x80;                                                                       // D
constexpr u8 kPm = 0x80;                                                                          // in an hour of 12
constexpr u8 kAlarmAny = 0xc0; // both bits set: any value matches

// What firmware leaves in CMOS.
constexpr u8 kEquipment = 0x14, kBaseMemory = 0x15, kExtendedMemory = 0x17, kExtendedMemoryAgain = 0x30;
constexpr u8 kMemoryAbove16M = 0x34, kMemoryAbove4G = 0x5b, kCpusMinusOne = 0x5f;
constexpr u8 kEquipmentFpu = 0x02;
constexpr u64 kBaseKilobytes = 640;

constexpr bool is_time(u8 index) {
  return index == kSeconds || index == kMinutes || index == kHours || (index >= kWeekday && index <= kYear) ||
         index == kCentury;
}

} // namespace

Rtc::Rtc(Bus &bus, TimerService &timers, IrqLine &irq8)
    : bus_(bus), clock_(timers.clock()), irq8_(irq8), wall_start_(clock_.wall_seconds()), start_(clock_.now()),
      timer_(timers.create([this] { expired(); })) {
  s_.cmos[kA] = kDividerOn | 6; // 1024 Hz
  s_.cmos[kB] = k24Hours;
  s_.cmos[kEquipment] = kEquipmentFpu;
  s_.seconds_seen = seconds();
  bus_.add_ports(kPort, 2, *this);
}

Rtc::~Rtc() { bus_.remove_ports(kPort, *this); }

void Rtc::set_memory(u64 below_4g, u64 above_4g) {
  const auto put = [this](u8 at, u64 value, unsigned bytes) {
    const u64 most = (1ull << bytes * 8) - 1;
    for (unsigned i = 0; i < bytes; ++i) s_.cmos[at + i] = static_cast<u8>(std::min(value, most) >> i * 8);
  };
  const u64 extended = below_4g > 1_MiB ? (below_4g - 1_MiB) / 1_KiB : 0;
  put(kBaseMemory, kBaseKilobytes, 2);
  put(kExtendedMemory, extended, 2);
  put(kExtendedMemoryAgain, extended, 2);
  put(kMemoryAbove16M, below_4g > 16_MiB ? (below_4g - 16_MiB) / 64_KiB : 0, 2);
  put(kMemoryAbove4G, above_4g / 64_KiB, 3);
}

void Rtc::set_cpus(unsigned count) { s_.cmos[kCpusMinusOne] = static_cast<u8>(count - 1); }

// RESET clears the interrupt enables and flags, and nothing else (datasheet, RESET pin).
void Rtc::reset() {
  s_.index = 0;
  s_.cmos[kB] &= static_cast<u8>(~(kPie | kAie | kUie));
  s_.cmos[kC] = 0;
  drive();
  schedule();
}

bool Rtc::frozen() const { return s_.cmos[kB] & kSet || (s_.cmos[kA] & kDividerMask) != kDividerOn; }

i64 Rtc::seconds() const { return static_cast<i64>(wall_start_ + (now() - start_) / kSecond) + s_.offset; }

// Rates 1 and 2 are those of 8 and 9 (datasheet, table 5, 32.768 kHz).
std::optional<Nanoseconds> Rtc::period() const {
  const unsigned rate = s_.cmos[kA] & kRateMask;
  if (rate == 0 || (s_.cmos[kA] & kDividerMask) != kDividerOn) return std::nullopt;
  const unsigned shift = (rate < 3 ? rate + 7 : rate) - 1;
  return (kSecond << shift) / 32768;
}

u64 Rtc::periods() const {
  const auto each = period();
  return each ? (now() - start_) / *each : 0;
}

u8 Rtc::encode(unsigned value) const {
  return static_cast<u8>(s_.cmos[kB] & kBinary ? value : (value / 10 % 10) << 4 | value % 10);
}

unsigned Rtc::decode(u8 value) const { return s_.cmos[kB] & kBinary ? value : (value >> 4) * 10u + (value & 0xf); }

u8 Rtc::encode_hour(unsigned hour) const {
  if (s_.cmos[kB] & k24Hours) return encode(hour);
  const unsigned of12 = hour % 12 == 0 ? 12 : hour % 12;
  return encode(of12) | (hour >= 12 ? kPm : 0);
}

unsigned Rtc::decode_hour(u8 value) const {
  if (s_.cmos[kB] & k24Hours) return decode(value);
  return decode(value & 0x7f) % 12 + (value & kPm ? 12 : 0);
}

void Rtc::show_time() {
  const CalendarTime time = to_calendar(seconds());
  s_.cmos[kSeconds] = encode(time.second);
  s_.cmos[kMinutes] = encode(time.minute);
  s_.cmos[kHours] = encode_hour(time.hour);
  s_.cmos[kWeekday] = encode(time.weekday + 1);
  s_.cmos[kDayOfMonth] = encode(time.day);
  s_.cmos[kMonth] = encode(time.month);
  s_.cmos[kYear] = encode(time.year % 100);
  s_.cmos[kCentury] = encode(time.year / 100);
}

void Rtc::take_time() {
  const i64 wanted = from_calendar({.year = decode(s_.cmos[kCentury]) * 100 + decode(s_.cmos[kYear]),
                                    .month = decode(s_.cmos[kMonth]),
                                    .day = decode(s_.cmos[kDayOfMonth]),
                                    .hour = decode_hour(s_.cmos[kHours]),
                                    .minute = decode(s_.cmos[kMinutes]),
                                    .second = decode(s_.cmos[kSeconds])});
  s_.offset += wanted - seconds();
  s_.seconds_seen = seconds();
}

u8 Rtc::read_byte(u64 offset) { return offset == 0 ? 0xff : read_register(s_.index); }

void Rtc::write_byte(u64 offset, u8 value) {
  if (offset == 0)
    s_.index = value & 0x7f; // bit 7 masks NMI, of which this machine has no source
  else
    write_register(s_.index, value);
}

u8 Rtc::read_register(u8 index) {
  if (is_time(index) && !frozen()) show_time();
  switch (index) {
  case kA: {
    const bool updating = !frozen() && (now() - start_) % kSecond >= kSecond - kUpdateWarning;
    return s_.cmos[kA] | (updating ? kUip : 0);
  }
  case kC: return read_flags();
  case kD: return kValid;
  default: return s_.cmos[index];
  }
}

// Reading register C clears it and releases the interrupt.
u8 Rtc::read_flags() {
  catch_up();
  const u8 flags = s_.cmos[kC];
  s_.cmos[kC] = 0;
  drive();
  schedule();
  return flags;
}

void Rtc::write_time(u8 index, u8 value) {
  if (!frozen()) show_time();
  s_.cmos[index] = value;
  if (!frozen()) take_time();
}

void Rtc::write_register(u8 index, u8 value) {
  catch_up();
  if (is_time(index)) {
    write_time(index, value);
    return;
  }
  if (index == kC || index == kD) return; // read-only
  const bool was_frozen = frozen();
  if (!was_frozen) show_time();
  s_.cmos[index] = index == kA ? value & static_cast<u8>(~kUip) : value;
  if (was_frozen && !frozen()) take_time();
  if (index == kA) periods_seen_ = periods();
  drive();
  schedule();
}

bool Rtc::alarm_matches(i64 second) const {
  const CalendarTime time = to_calendar(second);
  const auto any = [](u8 alarm) { return (alarm & kAlarmAny) == kAlarmAny; };
  const u8 s = s_.cmos[kSecondsAlarm], m = s_.cmos[kMinutesAlarm], h = s_.cmos[kHoursAlarm];
  return (any(s) || s == encode(time.second)) && (any(m) || m == encode(time.minute)) &&
         (any(h) || h == encode_hour(time.hour));
}

// The alarm names no date, so a day holds every time that it can match.
bool Rtc::alarm_between(i64 first, i64 last) const {
  for (i64 second = std::max(first, last - kDay); second <= last; ++second)
    if (alarm_matches(second)) return true;
  return false;
}

// Sets in register C what has happened since it was last brought up to date.
void Rtc::catch_up() {
  u8 &flags = s_.cmos[kC];
  if (const u64 count = periods(); count != periods_seen_) {
    periods_seen_ = count;
    flags |= kPf;
  }
  if (frozen()) return;
  const i64 second = seconds();
  if (second > s_.seconds_seen) {
    flags |= kUf;
    if (alarm_between(s_.seconds_seen + 1, second)) flags |= kAf;
  }
  s_.seconds_seen = second;
}

// The enables of register B lie where the flags of register C do.
void Rtc::drive() {
  const bool level = s_.cmos[kC] & s_.cmos[kB] & (kPf | kAf | kUf);
  s_.cmos[kC] = static_cast<u8>((s_.cmos[kC] & ~kIrqf) | (level ? kIrqf : 0));
  irq8_.set(level);
}

// Only what would interrupt needs a deadline; a line that is up already stays so until register C is read.
void Rtc::schedule() {
  timer_->cancel();
  const u8 control = s_.cmos[kB];
  if (s_.cmos[kC] & kIrqf) return;
  std::optional<Nanoseconds> next;
  if (const auto each = period(); each && control & kPie) next = start_ + (periods() + 1) * *each;
  if (control & (kAie | kUie) && !frozen()) {
    const Nanoseconds second = start_ + ((now() - start_) / kSecond + 1) * kSecond;
    next = next ? std::min(*next, second) : second;
  }
  if (next) timer_->set(*next);
}

void Rtc::expired() {
  const auto guard = bus_.lock();
  catch_up();
  drive();
  schedule();
}

Rtc::State Rtc::save() {
  catch_up();
  if (!frozen()) show_time();
  return s_;
}

// The guest's clock goes on with the host's: whoever was away for an hour finds it an hour later, and the alarm gone
// off.
void Rtc::restore(const State &state) {
  s_ = state;
  s_.index &= 0x7f;
  s_.offset = std::clamp(s_.offset, -kFarthest, kFarthest);
  periods_seen_ = periods();
  catch_up();
  drive();
  schedule();
}

} // namespace abyme
