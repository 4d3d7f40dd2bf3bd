#pragma once
#include "bus/bus.hpp"
#include "bus/byte_registers.hpp"
#include "bus/power_signals.hpp"
#include <optional>

namespace abyme {

// An 8042 keyboard controller, with a keyboard on which nobody types and no mouse, and the system control port 0x92:
// what kernels need to find a sane controller and to reset the machine. Gate A20 is a bit to read back; the address
// line is always open.
class KeyboardController {
public:
  struct State {
    u8 command = 0x45;             // the command byte: translation, system flag, keyboard interrupt
    u8 output_port = 0xcf;         // lines of the 8042, of which bit 1 is A20 and bit 0 the reset line (high)
    u8 pending = 0;                // the command whose data byte is awaited; 0: none
    bool pending_keyboard = false; // a keyboard command awaits its argument
    u8 output = 0;                 // the output buffer,
    bool full = false;             // and whether it holds something
    u8 queue[2]{};                 // what the keyboard has still to send
    u8 queued = 0;
    bool operator==(const State &) const = default;
  };

  KeyboardController(Bus &bus, IrqLine &irq1, PowerSignals &power);
  ~KeyboardController();
  KeyboardController(const KeyboardController &) = delete;
  KeyboardController &operator=(const KeyboardController &) = delete;

  void reset();
  [[nodiscard]] State save() const { return s_; }
  void restore(const State &state);

private:
  u8 read_data(u64);
  void write_data(u64, u8 value);
  u8 read_status(u64);
  void write_command(u64, u8 value);
  u8 read_system(u64);
  void write_system(u64, u8 value);
  void take_argument(u8 command, u8 value);
  void keyboard_command(u8 value);
  void set_output_port(u8 value);
  void answer(u8 value);
  void update();

  Bus &bus_;
  IrqLine &irq1_;
  PowerSignals &power_;
  State s_;
  MemberBytes<KeyboardController> data_, status_, system_;
};

} // namespace abyme
