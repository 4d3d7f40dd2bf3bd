#include "devices/acpi_pm/acpi_pm.hpp"

namespace abyme {
namespace {

constexpr u64 kSecond = 1'000'000'000;

// PM1 status and enable (ACPI 6.4 tables 4.11, 4.12), control (table 4.13).
constexpr u16 kTimerStatus = 1 << 0, kGlobal = 1 << 5, kPowerButton = 1 << 8, kSleepButton = 1 << 9, kRtc = 1 << 10;
// Kernels check that what they enable reads back, be there a source for it or not.
constexpr u16 kEnableBits = kTimerStatus | kGlobal | kPowerButton | kSleepButton | kRtc;
constexpr u16 kStatusBits = kEnableBits | 1 << 15; // and WAK_STS
constexpr u16 kSciEnable = 1 << 0, kSleepEnable = 1 << 13;
constexpr u16 kSleepType = 7 << 10;
constexpr u16 kControlBits = 1 << 1 | kSleepType; // BM_RLD and SLP_TYP are kept

constexpr u8 byte_of(u16 value, u64 index) { return static_cast<u8>(value >> index * 8); }

} // namespace

AcpiPm::AcpiPm(Bus &bus, TimerService &timers, IrqLine &sci, PowerSignals &power, const Config &config)
    : bus_(bus), clock_(timers.clock()), sci_(sci), power_(power), config_(config), start_(clock_.now()),
      event_(*this, &AcpiPm::read_event, &AcpiPm::write_event),
      control_(*this, &AcpiPm::read_control, &AcpiPm::write_control),
      timer_port_(*this, &AcpiPm::read_timer, &AcpiPm::write_timer), timer_(timers.create([this] { expired(); })) {
  bus_.add_ports(config_.port, 4, event_);
  bus_.add_ports(config_.port + kControlOffset, 2, control_);
  bus_.add_ports(config_.port + kTimerOffset, 4, timer_port_);
}

AcpiPm::~AcpiPm() {
  bus_.remove_ports(config_.port, event_);
  bus_.remove_ports(config_.port + kControlOffset, control_);
  bus_.remove_ports(config_.port + kTimerOffset, timer_port_);
}

u64 AcpiPm::ticks() const { return first_tick_ + static_cast<u64>(u128{now() - start_} * kTimerHertz / kSecond); }

// TMR_STS is set whenever the timer's most significant bit changes (§4.8.2.1).
void AcpiPm::catch_up() {
  const u64 carries = ticks() >> (config_.timer_bits - 1);
  if (carries != carries_seen_) s_.status |= kTimerStatus;
  carries_seen_ = carries;
}

void AcpiPm::update() {
  sci_.set(s_.status & s_.enable);
  timer_->cancel();
  if (!(s_.enable & kTimerStatus) || s_.status & kTimerStatus) return;
  const u64 next = (carries_seen_ + 1) << (config_.timer_bits - 1);
  timer_->set(start_ + static_cast<Nanoseconds>((u128{next - first_tick_} * kSecond + kTimerHertz - 1) / kTimerHertz));
}

void AcpiPm::expired() {
  const auto guard = bus_.lock();
  catch_up();
  update();
}

void AcpiPm::press_power_button() {
  s_.status |= kPowerButton;
  update();
}

u8 AcpiPm::read_event(u64 offset) {
  catch_up();
  update();
  return offset < 2 ? byte_of(s_.status, offset) : byte_of(s_.enable, offset - 2);
}

// Status bits are cleared by writing ones to them.
void AcpiPm::write_event(u64 offset, u8 value) {
  catch_up();
  const unsigned shift = (offset & 1) * 8;
  if (offset < 2)
    s_.status &= static_cast<u16>(~(value << shift));
  else
    s_.enable = static_cast<u16>(((s_.enable & ~(0xff << shift)) | value << shift) & kEnableBits);
  update();
}

u8 AcpiPm::read_control(u64 offset) { return byte_of(s_.control | kSciEnable, offset); }

// Other sleep types than soft-off are not offered (no _S3, no _S4), and entering one does nothing.
void AcpiPm::write_control(u64 offset, u8 value) {
  const unsigned shift = (offset & 1) * 8;
  const u16 written = static_cast<u16>((s_.control & ~(0xff << shift)) | value << shift);
  s_.control = written & kControlBits;
  const bool soft_off = (written & kSleepType) >> 10 == config_.soft_off_type;
  if (written & kSleepEnable && soft_off) power_.power_off();
}

u64 AcpiPm::read_timer(u64 offset, unsigned) {
  const u64 mask = (1ull << config_.timer_bits) - 1;
  return (ticks() & mask) >> offset * 8;
}

void AcpiPm::write_timer(u64, unsigned, u64) {} // read-only (§4.8.3.3)

void AcpiPm::reset() {
  s_.status = s_.enable = s_.control = 0;
  update();
}

AcpiPm::State AcpiPm::save() {
  catch_up();
  State saved = s_;
  saved.ticks = ticks() & ((1ull << config_.timer_bits) - 1);
  return saved;
}

void AcpiPm::restore(const State &state) {
  s_ = state;
  s_.ticks = 0;
  s_.status &= kStatusBits;
  s_.enable &= kEnableBits;
  const u64 mask = (1ull << config_.timer_bits) - 1;
  first_tick_ = state.ticks & mask;
  carries_seen_ = first_tick_ >> (config_.timer_bits - 1);
  start_ = now();
  update();
}

} // namespace abyme
