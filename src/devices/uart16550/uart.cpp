#include "devices/uart16550/uart.hpp"
#include <algorithm>

namespace abyme {
namespace {

// Registers, and bits by their datasheet names (PC16550D table II).
enum Register : unsigned {
  kData,
  kInterruptEnable,
  kInterruptId,
  kLineControl,
  kModemControl,
  kLineStatus,
  kModemStatus,
  kScratch
};
constexpr unsigned kFifoControl = kInterruptId; // when written

constexpr u8 kErbfi = 1, kEtbei = 2, kElsi = 4, kEdssi = 8; // IER
constexpr u8 kFifoEnable = 1, kFifoClearReceive = 2;        // FCR
constexpr u8 kFifoKept = 0xc9;                              // FCR bits that are no commands
constexpr u8 kIdNone = 1, kIdModem = 0, kIdTransmit = 2, kIdReceive = 4, kIdTimeout = 0xc, kIdLine = 6, kIdFifos = 0xc0;
constexpr u8 kDlab = 0x80;                                             // LCR
constexpr u8 kDtr = 1, kRts = 2, kOut1 = 4, kOut2 = 8, kLoop = 0x10;   // MCR
constexpr u8 kDataReady = 1, kOverrun = 2, kThre = 0x20, kTemt = 0x40; // LSR
constexpr u8 kCts = 0x10, kDsr = 0x20, kRi = 0x40, kDcd = 0x80;        // MSR
constexpr u8 kTeri = 4;
constexpr size_t kFifoSize = 16;

} // namespace

Uart16550::Uart16550(Bus &bus, u16 port, IrqLine &irq, Backend backend)
    : bus_(bus), port_(port), irq_(irq), backend_(std::move(backend)) {
  bus_.add_ports(port_, 8, *this);
}

Uart16550::~Uart16550() { bus_.remove_ports(port_, *this); }

bool Uart16550::divisor_latch() const { return s_.line_control & kDlab; }
bool Uart16550::fifo_enabled() const { return s_.fifo_control & kFifoEnable; }
bool Uart16550::loopback() const { return s_.modem_control & kLoop; }
size_t Uart16550::capacity() const { return fifo_enabled() ? kFifoSize : 1; }

size_t Uart16550::trigger_level() const {
  constexpr size_t kLevels[] = {1, 4, 8, 14};
  return fifo_enabled() ? kLevels[s_.fifo_control >> 6] : 1;
}

// The other end is always there and ready; in loopback the outputs come back (PC16550D §8.6).
u8 Uart16550::modem_inputs() const {
  if (!loopback()) return kCts | kDsr | kDcd;
  const u8 outputs = s_.modem_control;
  return static_cast<u8>((outputs & kRts ? kCts : 0) | (outputs & kDtr ? kDsr : 0) | (outputs & kOut1 ? kRi : 0) |
                         (outputs & kOut2 ? kDcd : 0));
}

u8 Uart16550::line_status() const {
  return static_cast<u8>((received_.empty() ? 0 : kDataReady) | s_.line_errors | kThre | kTemt);
}

// The highest of the pending causes (PC16550D table IV). Time does not pass on this line, so characters below the
// trigger level time out at once.
u8 Uart16550::interrupt_cause() const {
  if (s_.interrupt_enable & kElsi && s_.line_errors) return kIdLine;
  if (s_.interrupt_enable & kErbfi && !received_.empty())
    return received_.size() >= trigger_level() ? kIdReceive : kIdTimeout;
  if (s_.interrupt_enable & kEtbei && s_.transmit_interrupt) return kIdTransmit;
  if (s_.interrupt_enable & kEdssi && s_.modem_deltas) return kIdModem;
  return kIdNone;
}

void Uart16550::update() { irq_.set(interrupt_cause() != kIdNone && s_.modem_control & kOut2 && !loopback()); }

u8 Uart16550::read_byte(u64 offset) {
  switch (offset) {
  case kData: return divisor_latch() ? static_cast<u8>(s_.divisor) : read_data();
  case kInterruptEnable: return divisor_latch() ? static_cast<u8>(s_.divisor >> 8) : s_.interrupt_enable;
  case kInterruptId: return read_interrupt_id();
  case kLineControl: return s_.line_control;
  case kModemControl: return s_.modem_control;
  case kLineStatus: return read_line_status();
  case kModemStatus: return read_modem_status();
  default: return s_.scratch;
  }
}

void Uart16550::write_byte(u64 offset, u8 value) {
  switch (offset) {
  case kData:
    if (divisor_latch())
      s_.divisor = static_cast<u16>((s_.divisor & 0xff00) | value);
    else
      transmit(value);
    break;
  case kInterruptEnable:
    if (divisor_latch())
      s_.divisor = static_cast<u16>((s_.divisor & 0xff) | value << 8);
    else
      set_interrupt_enable(value & 0xf);
    break;
  case kFifoControl: set_fifo_control(value); break;
  case kLineControl: s_.line_control = value; break;
  case kModemControl: set_modem_control(value & 0x1f); break;
  case kLineStatus:
  case kModemStatus: break; // read-only
  default: s_.scratch = value; break;
  }
  update();
}

u8 Uart16550::read_data() {
  if (received_.empty()) return 0;
  const u8 value = received_.front();
  received_.pop_front();
  tell_room();
  update();
  return value;
}

u8 Uart16550::read_interrupt_id() {
  const u8 cause = interrupt_cause();
  if (cause == kIdTransmit) s_.transmit_interrupt = false; // reading it is the acknowledgement
  update();
  return cause | (fifo_enabled() ? kIdFifos : 0);
}

u8 Uart16550::read_line_status() {
  const u8 value = line_status();
  s_.line_errors = 0;
  update();
  return value;
}

u8 Uart16550::read_modem_status() {
  const u8 value = modem_inputs() | s_.modem_deltas;
  s_.modem_deltas = 0;
  update();
  return value;
}

void Uart16550::transmit(u8 value) {
  if (loopback())
    push(value);
  else
    backend_.output({&value, 1});
  s_.transmit_interrupt = true; // gone at once, so the holding register is empty again
}

void Uart16550::push(u8 value) {
  if (received_.size() >= capacity())
    s_.line_errors |= kOverrun;
  else
    received_.push_back(value);
}

void Uart16550::set_interrupt_enable(u8 value) {
  if (value & ~s_.interrupt_enable & kEtbei) s_.transmit_interrupt = true;
  s_.interrupt_enable = value;
}

// Turning the FIFOs on or off empties them, too.
void Uart16550::set_fifo_control(u8 value) {
  const bool switched = (value ^ s_.fifo_control) & kFifoEnable;
  if (switched || (value & kFifoEnable && value & kFifoClearReceive)) received_.clear();
  s_.fifo_control = value & kFifoEnable ? value & kFifoKept : 0;
  tell_room();
}

void Uart16550::set_modem_control(u8 value) {
  const u8 before = modem_inputs();
  s_.modem_control = value;
  const u8 after = modem_inputs();
  const u8 changed = before ^ after;
  s_.modem_deltas |= (changed & (kCts | kDsr | kDcd)) >> 4;
  if (before & ~after & kRi) s_.modem_deltas |= kTeri;
  tell_room();
}

void Uart16550::tell_room() {
  if (!refused_ || loopback() || received_.size() >= capacity()) return;
  refused_ = false;
  backend_.input_room();
}

size_t Uart16550::receive(std::span<const u8> input) {
  const auto guard = bus_.lock();
  const size_t room = loopback() ? 0 : capacity() - std::min(capacity(), received_.size());
  const size_t taken = std::min(room, input.size());
  received_.insert(received_.end(), input.begin(), input.begin() + static_cast<std::ptrdiff_t>(taken));
  if (taken < input.size()) refused_ = true;
  update();
  return taken;
}

void Uart16550::reset() {
  s_ = {};
  received_.clear();
  tell_room();
  update();
}

Uart16550::State Uart16550::save() const {
  State saved = s_;
  saved.received.assign(received_.begin(), received_.end());
  return saved;
}

void Uart16550::restore(const State &state) {
  s_ = state;
  s_.received.clear();
  received_.assign(state.received.begin(),
                   state.received.begin() + static_cast<std::ptrdiff_t>(std::min(kFifoSize, state.received.size())));
  tell_room();
  update();
}

} // namespace abyme
