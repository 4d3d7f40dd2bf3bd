#include "devices/i8254/pit.hpp"
#include <algorithm>

namespace abyme {
namespace {

constexpr u16 kCounterPort = 0x40, kControlBPort = 0x61;
constexpr u64 kControlWord = 3;
// Bits of port 0x61.
constexpr u8 kGate2 = 1 << 0, kSpeaker = 1 << 1, kRefresh = 1 << 4, kOutput2 = 1 << 5;
constexpr Nanoseconds kRefreshToggle = 15'085; // DRAM refresh of a PC/AT
constexpr Nanoseconds kShortestWait = 50'000;  // bounds what an absurd count costs the host

} // namespace

Pit::Pit(Bus &bus, TimerService &timers, IrqLine &irq0)
    : bus_(bus), clock_(timers.clock()), irq0_(irq0), counters_(*this, &Pit::read_counter, &Pit::write_counter),
      control_b_(*this, &Pit::read_control_b, &Pit::write_control_b), timer_(timers.create([this] { expired(); })) {
  channels_[2].set_gate(false, now());
  bus_.add_ports(kCounterPort, 4, counters_);
  bus_.add_ports(kControlBPort, 1, control_b_);
}

Pit::~Pit() {
  bus_.remove_ports(kCounterPort, counters_);
  bus_.remove_ports(kControlBPort, control_b_);
}

void Pit::reset() {
  channels_ = {};
  channels_[2].set_gate(false, now());
  speaker_ = false;
  drive(false);
  schedule();
}

u8 Pit::read_counter(u64 offset) { return offset == kControlWord ? 0xff : channels_[offset].read(now()); }

void Pit::write_counter(u64 offset, u8 value) {
  if (offset != kControlWord) {
    channels_[offset].write_count(value, now());
  } else if (value >> 6 == 3) {
    read_back(value);
    return;
  } else if ((value & 0x30) == 0) {
    channels_[value >> 6].latch_count(now());
    return;
  } else {
    channels_[value >> 6].write_control(value);
  }
  const bool touched0 = offset == kControlWord ? value >> 6 == 0 : offset == 0;
  if (!touched0) return;
  // A terminal count (mode 0) keeps the line up until the next control word or count.
  drive(false);
  schedule();
}

// The read-back command: bits 5 and 4 clear to latch count and status of the channels in bits 3:1.
void Pit::read_back(u8 command) {
  for (unsigned i = 0; i < 3; ++i) {
    if (!(command & 2u << i)) continue;
    if (!(command & 0x20)) channels_[i].latch_count(now());
    if (!(command & 0x10)) channels_[i].latch_status(now());
  }
}

u8 Pit::read_control_b(u64) {
  const bool refresh = now() / kRefreshToggle & 1;
  return static_cast<u8>((channels_[2].gate() ? kGate2 : 0) | (speaker_ ? kSpeaker : 0) | (refresh ? kRefresh : 0) |
                         (channels_[2].output(now()) ? kOutput2 : 0));
}

void Pit::write_control_b(u64, u8 value) {
  speaker_ = value & kSpeaker;
  channels_[2].set_gate(value & kGate2, now());
}

void Pit::drive(bool level) {
  irq_ = level;
  irq0_.set(level);
}

void Pit::schedule() {
  next_rise_ = channels_[0].next_rise(now());
  if (next_rise_)
    timer_->set(std::max(*next_rise_, now()));
  else
    timer_->cancel();
}

void Pit::expired() {
  const auto guard = bus_.lock();
  if (!next_rise_ || now() < *next_rise_) return;
  drive(false);
  drive(true);
  schedule();
  if (next_rise_) timer_->set(std::max(*next_rise_, now() + kShortestWait));
}

Pit::State Pit::save() const {
  State saved{.channels = {}, .speaker = speaker_, .irq = irq_, .saved_at = now()};
  std::ranges::transform(channels_, saved.channels.begin(), &PitChannel::state);
  return saved;
}

// The clock may read differently now; what has been counted stays.
void Pit::restore(const State &state) {
  for (unsigned i = 0; i < 3; ++i) {
    PitChannel::State channel = state.channels[i];
    channel.start += now() - state.saved_at;
    channels_[i].restore(channel);
  }
  speaker_ = state.speaker;
  drive(state.irq);
  schedule();
}

} // namespace abyme
