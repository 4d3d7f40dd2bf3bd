#pragma once
#include "bus/bus.hpp"
#include "bus/byte_registers.hpp"
#include <deque>
#include <functional>
#include <span>

namespace abyme {

// A 16550A UART (National PC16550D) at eight ports, without a baud rate: what is sent is out at once, and what is
// received waits, on the other side, until there is room for it. Its interrupt passes through OUT2, as on every PC.
class Uart16550 final : public ByteRegisters {
public:
  struct Backend {
    // What the guest sends. Called with the device lock held.
    std::function<void(std::span<const u8>)> output;
    // receive() takes bytes again after it took fewer than it was given. Called with the device lock held.
    std::function<void()> input_room = [] {};
  };
  struct State {
    u8 interrupt_enable = 0, fifo_control = 0, line_control = 0, modem_control = 0, scratch = 0;
    u8 line_errors = 0;              // the error bits of LSR
    u8 modem_deltas = 0;             // the delta bits of MSR
    u16 divisor = 12;                // 9600 baud
    bool transmit_interrupt = false; // THR became empty and nobody was told yet
    std::vector<u8> received;
    bool operator==(const State &) const = default;
  };

  Uart16550(Bus &bus, u16 port, IrqLine &irq, Backend backend);
  ~Uart16550() override;
  Uart16550(const Uart16550 &) = delete;
  Uart16550 &operator=(const Uart16550 &) = delete;

  // Input for the guest, from any thread that does not hold the device lock. Returns how many bytes there was room for.
  [[nodiscard]] size_t receive(std::span<const u8> input);
  void reset();
  [[nodiscard]] State save() const;
  void restore(const State &state);

private:
  [[nodiscard]] u8 read_byte(u64 offset) override;
  void write_byte(u64 offset, u8 value) override;
  [[nodiscard]] bool divisor_latch() const;
  [[nodiscard]] bool fifo_enabled() const;
  [[nodiscard]] bool loopback() const;
  [[nodiscard]] size_t capacity() const;
  [[nodiscard]] size_t trigger_level() const;
  [[nodiscard]] u8 interrupt_cause() const;
  [[nodiscard]] u8 modem_inputs() const;
  [[nodiscard]] u8 line_status() const;
  u8 read_data();
  u8 read_interrupt_id();
  u8 read_line_status();
  u8 read_modem_status();
  void transmit(u8 value);
  void set_fifo_control(u8 value);
  void set_interrupt_enable(u8 value);
  void set_modem_control(u8 value);
  void push(u8 value);
  void tell_room();
  void update();

  Bus &bus_;
  const u16 port_;
  IrqLine &irq_;
  Backend backend_;
  State s_; // but for `received`
  std::deque<u8> received_;
  bool refused_ = false; // receive() took fewer bytes than it was given
};

} // namespace abyme
