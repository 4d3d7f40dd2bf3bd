#include "devices/i8254/pit_channel.hpp"

namespace abyme {
namespace {

constexpr u64 kSecond = 1'000'000'000;
enum Access : unsigned { kLatch, kLow, kHigh, kLowHigh };

u64 ticks_of(Nanoseconds time) { return static_cast<u64>(u128{time} * PitChannel::kHertz / kSecond); }
// The first nanosecond in which that many ticks have passed.
Nanoseconds time_of(u64 ticks) {
  return static_cast<Nanoseconds>((u128{ticks} * kSecond + PitChannel::kHertz - 1) / PitChannel::kHertz);
}

u32 from_bcd(u32 value) {
  return (value >> 12) % 10 * 1000 + (value >> 8 & 0xf) * 100 + (value >> 4 & 0xf) * 10 + (value & 0xf);
}
u16 to_bcd(u32 value) {
  return static_cast<u16>((value / 1000 % 10) << 12 | (value / 100 % 10) << 8 | (value / 10 % 10) << 4 | value % 10);
}

} // namespace

unsigned PitChannel::mode() const {
  const unsigned coded = s_.control >> 1 & 7;
  return coded >= 6 ? coded - 4 : coded; // 6 and 7 are 2 and 3 again
}

u64 PitChannel::ticks(Nanoseconds now) const { return s_.counted + (s_.counting ? ticks_of(now - s_.start) : 0); }

void PitChannel::write_control(u8 value) {
  s_.control = value & 0x3f;
  s_.programmed = s_.counting = false;
  s_.write_high_next = s_.read_high_next = false;
  s_.latched_count.reset();
  s_.latched_status.reset();
}

void PitChannel::restart(Nanoseconds now) {
  s_.counted = 0;
  s_.start = now;
  s_.counting = true;
}

// A written count takes effect at once; in modes 1 and 5 only a rising gate starts it (datasheet, mode definitions).
void PitChannel::load(u32 reload, Nanoseconds now) {
  s_.reload = reload;
  s_.programmed = true;
  const bool by_gate = mode() == 1 || mode() == 5;
  if (by_gate) return;
  restart(now);
  s_.counting = s_.gate;
}

void PitChannel::write_count(u8 value, Nanoseconds now) {
  if (access() == kLowHigh && !s_.write_high_next) {
    s_.write_low = value;
    s_.write_high_next = true;
    if (mode() == 0) s_.programmed = s_.counting = false; // the first byte stops it
    return;
  }
  s_.write_high_next = false;
  u32 written = value;
  if (access() == kHigh) written = u32{value} << 8;
  if (access() == kLowHigh) written = u32{value} << 8 | s_.write_low;
  const bool bcd = s_.control & 1;
  const u32 reload = bcd ? from_bcd(written) : written;
  load(reload == 0 ? (bcd ? 10000 : 65536) : reload, now);
}

u16 PitChannel::count(Nanoseconds now) const {
  if (!s_.programmed) return 0;
  const u64 wrap = s_.control & 1 ? 10000 : 65536;
  const u64 passed = ticks(now);
  u64 left = 0;
  if (mode() == 2)
    left = s_.reload - passed % s_.reload;
  else if (mode() == 3)
    left = s_.reload - passed * 2 % s_.reload; // counts by twos, twice a period
  else
    left = (s_.reload + wrap - passed % wrap) % wrap;
  return s_.control & 1 ? to_bcd(static_cast<u32>(left % wrap)) : static_cast<u16>(left);
}

bool PitChannel::output(Nanoseconds now) const {
  if (!s_.programmed) return mode() != 0;
  const u64 passed = ticks(now);
  switch (mode()) {
  case 0:
  case 1: return passed >= s_.reload || (mode() == 1 && !s_.counting);
  case 2: return !s_.gate || passed % s_.reload != s_.reload - 1;
  case 3: return !s_.gate || passed % s_.reload < (s_.reload + 1) / 2;
  default: return passed != s_.reload; // 4 and 5: a strobe of one tick
  }
}

std::optional<Nanoseconds> PitChannel::next_rise(Nanoseconds now) const {
  if (!s_.programmed || !s_.counting) return std::nullopt;
  const u64 passed = ticks(now);
  u64 at = s_.reload;
  if (periodic())
    at = (passed / s_.reload + 1) * s_.reload;
  else if (mode() >= 4)
    at = u64{s_.reload} + 1; // the end of the strobe
  if (at <= passed || at < s_.counted) return std::nullopt;
  return s_.start + time_of(at - s_.counted);
}

void PitChannel::set_gate(bool level, Nanoseconds now) {
  const bool rises = level && !s_.gate;
  if (level == s_.gate) return;
  s_.gate = level;
  if (!s_.programmed) return;
  const bool pauses = mode() == 0 || mode() == 4; // the others reload on a rising gate
  if (rises && !pauses)
    restart(now);
  else if (rises) {
    s_.start = now;
    s_.counting = true;
  } else if (mode() != 1 && mode() != 5) {
    s_.counted = ticks(now);
    s_.counting = false;
  }
}

void PitChannel::latch_count(Nanoseconds now) {
  if (!s_.latched_count) s_.latched_count = count(now);
}

void PitChannel::latch_status(Nanoseconds now) {
  constexpr u8 kOutput = 0x80, kNullCount = 0x40;
  if (!s_.latched_status)
    s_.latched_status = static_cast<u8>((output(now) ? kOutput : 0) | (s_.programmed ? 0 : kNullCount) | s_.control);
}

// A latched status comes first, then a latched count, then the live one.
u8 PitChannel::read(Nanoseconds now) {
  if (s_.latched_status) {
    const u8 status = *s_.latched_status;
    s_.latched_status.reset();
    return status;
  }
  const u16 value = s_.latched_count.value_or(count(now));
  const bool high = access() == kHigh || (access() == kLowHigh && s_.read_high_next);
  const bool last = access() != kLowHigh || high;
  s_.read_high_next = access() == kLowHigh && !high;
  if (last) s_.latched_count.reset();
  return static_cast<u8>(high ? value >> 8 : value);
}

void PitChannel::restore(const State &state) {
  s_ = state;
  if (s_.reload == 0 || s_.reload > 65536) s_.programmed = s_.counting = false;
}

} // namespace abyme
