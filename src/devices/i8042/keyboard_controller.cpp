#include "devices/i8042/keyboard_controller.hpp"

namespace abyme {
namespace {

constexpr u16 kDataPort = 0x60, kCommandPort = 0x64, kSystemPort = 0x92;

constexpr u8 kStatusFull = 1, kStatusSystem = 4, kStatusUnlocked = 0x10;
constexpr u8 kCommandInterrupt = 1, kCommandSystem = 4, kCommandKeyboardOff = 0x10, kCommandMouseOff = 0x20;
constexpr u8 kPortNotReset = 1, kPortA20 = 2;
constexpr u8 kSystemReset = 1, kSystemA20 = 2;

enum Command : u8 {
  kReadCommandByte = 0x20,
  kWriteCommandByte = 0x60,
  kMouseOff = 0xa7,
  kMouseOn = 0xa8,
  kTestMouse = 0xa9,
  kSelfTest = 0xaa,
  kTestKeyboard = 0xab,
  kKeyboardOff = 0xad,
  kKeyboardOn = 0xae,
  kReadInputPort = 0xc0,
  kReadOutputPort = 0xd0,
  kWriteOutputPort = 0xd1,
  kWriteKeyboardBuffer = 0xd2,
  kWriteMouseBuffer = 0xd3,
  kWriteMouse = 0xd4,
  kFirstPulse = 0xf0,
};
constexpr u8 kSelfTestPassed = 0x55, kNoMouse = 0x01;

enum KeyboardCommand : u8 {
  kSetLeds = 0xed,
  kEcho = 0xee,
  kScanCodeSet = 0xf0,
  kIdentify = 0xf2,
  kRate = 0xf3,
  kResetKeyboard = 0xff
};
constexpr u8 kAcknowledge = 0xfa, kResend = 0xfe, kKeyboardPassed = 0xaa;

} // namespace

KeyboardController::KeyboardController(Bus &bus, IrqLine &irq1, PowerSignals &power)
    : bus_(bus), irq1_(irq1), power_(power),
      data_(*this, &KeyboardController::read_data, &KeyboardController::write_data),
      status_(*this, &KeyboardController::read_status, &KeyboardController::write_command),
      system_(*this, &KeyboardController::read_system, &KeyboardController::write_system) {
  bus_.add_ports(kDataPort, 1, data_);
  bus_.add_ports(kCommandPort, 1, status_);
  bus_.add_ports(kSystemPort, 1, system_);
}

KeyboardController::~KeyboardController() {
  bus_.remove_ports(kDataPort, data_);
  bus_.remove_ports(kCommandPort, status_);
  bus_.remove_ports(kSystemPort, system_);
}

void KeyboardController::reset() {
  s_ = {};
  update();
}

void KeyboardController::restore(const State &state) {
  s_ = state;
  if (s_.queued > sizeof s_.queue) s_.queued = 0;
  update();
}

void KeyboardController::update() { irq1_.set(s_.full && s_.command & kCommandInterrupt); }

void KeyboardController::answer(u8 value) {
  s_.output = value;
  s_.full = true;
}

// The line falls between two bytes, so that an edge-triggered controller sees each.
u8 KeyboardController::read_data(u64) {
  const u8 value = s_.output;
  s_.full = false;
  update();
  if (s_.queued != 0) {
    answer(s_.queue[0]);
    s_.queue[0] = s_.queue[1];
    --s_.queued;
    update();
  }
  return value;
}

u8 KeyboardController::read_status(u64) {
  return static_cast<u8>(kStatusUnlocked | (s_.command & kCommandSystem ? kStatusSystem : 0) |
                         (s_.full ? kStatusFull : 0));
}

void KeyboardController::set_output_port(u8 value) {
  s_.output_port = value;
  if (!(value & kPortNotReset)) power_.reset();
}

void KeyboardController::write_command(u64, u8 value) {
  s_.pending = 0;
  switch (value) {
  case kReadCommandByte: answer(s_.command); break;
  case kMouseOff: s_.command |= kCommandMouseOff; break;
  case kMouseOn: s_.command &= static_cast<u8>(~kCommandMouseOff); break;
  case kTestMouse: answer(kNoMouse); break; // the line is stuck: nothing is there
  case kSelfTest:
    s_.command |= kCommandSystem;
    answer(kSelfTestPassed);
    break;
  case kTestKeyboard: answer(0); break;
  case kKeyboardOff: s_.command |= kCommandKeyboardOff; break;
  case kKeyboardOn: s_.command &= static_cast<u8>(~kCommandKeyboardOff); break;
  case kReadInputPort: answer(0x80); break; // keyboard not locked
  case kReadOutputPort: answer(s_.output_port); break;
  case kWriteCommandByte:
  case kWriteOutputPort:
  case kWriteKeyboardBuffer:
  case kWriteMouseBuffer:
  case kWriteMouse: s_.pending = value; break;
  default:
    // Pulses the output lines whose bits are clear; line 0 is the reset.
    if (value >= kFirstPulse && !(value & 1)) power_.reset();
    break;
  }
  update();
}

void KeyboardController::take_argument(u8 command, u8 value) {
  switch (command) {
  case kWriteCommandByte: s_.command = value; break;
  case kWriteOutputPort: set_output_port(value); break;
  case kWriteKeyboardBuffer:
  case kWriteMouseBuffer: answer(value); break;
  default: answer(kResend); break; // there is no mouse to take it
  }
}

void KeyboardController::keyboard_command(u8 value) {
  if (s_.pending_keyboard) {
    s_.pending_keyboard = false;
    answer(kAcknowledge);
    return;
  }
  s_.queued = 0;
  switch (value) {
  case kEcho: answer(kEcho); return;
  case kIdentify:
    s_.queue[0] = 0xab; // an MF2 keyboard
    s_.queue[1] = s_.command & 0x40 ? 0x41 : 0x83;
    s_.queued = 2;
    break;
  case kResetKeyboard:
    s_.queue[0] = kKeyboardPassed;
    s_.queued = 1;
    break;
  case kSetLeds:
  case kScanCodeSet:
  case kRate: s_.pending_keyboard = true; break;
  default: break; // enable, disable and the like need no more than the acknowledgement
  }
  answer(kAcknowledge);
}

void KeyboardController::write_data(u64, u8 value) {
  const u8 pending = s_.pending;
  s_.pending = 0;
  if (pending != 0)
    take_argument(pending, value);
  else
    keyboard_command(value);
  update();
}

u8 KeyboardController::read_system(u64) { return s_.output_port & kPortA20 ? kSystemA20 : 0; }

void KeyboardController::write_system(u64, u8 value) {
  s_.output_port = static_cast<u8>((s_.output_port & ~kPortA20) | (value & kSystemA20 ? kPortA20 : 0));
  if (value & kSystemReset) power_.reset();
}

} // namespace abyme
