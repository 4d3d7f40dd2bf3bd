#pragma once
#include "bus/bus.hpp"
#include "bus/byte_registers.hpp"

namespace abyme {

// An I/O APIC with 24 pins (Intel 82093AA), version 20h: with the EOI register. Wires carry assertion, not voltage:
// polarity is kept for software to read and has no effect. Sends to local APICs through the InterruptSink.
class IoApic final : public EoiListener {
public:
  static constexpr unsigned kPins = 24;
  static constexpr Gpa kBase{0xfec0'0000};
  struct State {
    u8 id = 0;
    u8 selected = 0;
    u32 lines = 0; // levels of the pins
    std::array<u64, kPins> redirection{};
    bool operator==(const State &) const = default;
  };

  IoApic(Bus &bus, InterruptSink &sink);
  ~IoApic() override;
  IoApic(const IoApic &) = delete;
  IoApic &operator=(const IoApic &) = delete;

  void set_pin(unsigned pin, bool level); // with the device lock held
  // From a local APIC, on a vCPU thread without the device lock.
  void end_of_interrupt(u8 vector) override;

  void reset();
  [[nodiscard]] State save() const { return s_; }
  void restore(const State &state);

private:
  u64 read(u64 offset, unsigned size);
  void write(u64 offset, unsigned size, u64 value);
  [[nodiscard]] u32 read_register() const;
  void write_register(u32 value);
  void write_redirection(unsigned pin, bool high, u32 value);
  void finish(u8 vector);
  void send(unsigned pin);
  void send_if_level(unsigned pin);
  [[nodiscard]] bool asserted(unsigned pin) const { return s_.lines >> pin & 1; }

  Bus &bus_;
  InterruptSink &sink_;
  State s_;
  MemberBlock<IoApic> registers_;
};

} // namespace abyme
