#pragma once
#include "base/timers.hpp"
#include "bus/bus.hpp"
#include "bus/byte_registers.hpp"
#include <optional>

namespace abyme {

// An MC146818 real-time clock with the 128 bytes of CMOS memory behind ports 0x70 and 0x71: time, alarm, the three
// interrupts on IRQ 8, and what PC firmware leaves in CMOS for kernels to find, as QEMU and SeaBIOS lay it out.
class Rtc final : public ByteRegisters {
public:
  static constexpr unsigned kBytes = 128;
  struct State {
    u8 index = 0;
    std::array<u8, kBytes> cmos{};
    i64 offset = 0;       // of the guest's time from the clock's, in seconds
    i64 seconds_seen = 0; // of the guest's time, up to which register C has been told
    bool operator==(const State &) const = default;
  };

  Rtc(Bus &bus, TimerService &timers, IrqLine &irq8);
  ~Rtc() override;
  Rtc(const Rtc &) = delete;
  Rtc &operator=(const Rtc &) = delete;

  // What the machine tells its kernels; before any vCPU runs.
  void set_memory(u64 below_4g, u64 above_4g);
  void set_cpus(unsigned count);
  void reset(); // the time and the memory stay, as their battery is there for
  [[nodiscard]] State save();
  void restore(const State &state);

private:
  [[nodiscard]] u8 read_byte(u64 offset) override;
  void write_byte(u64 offset, u8 value) override;
  [[nodiscard]] u8 read_register(u8 index);
  void write_register(u8 index, u8 value);
  void write_time(u8 index, u8 value);
  [[nodiscard]] u8 read_flags();
  [[nodiscard]] bool frozen() const;
  [[nodiscard]] i64 seconds() const;
  [[nodiscard]] u64 periods() const;
  [[nodiscard]] std::optional<Nanoseconds> period() const;
  [[nodiscard]] u8 encode(unsigned value) const;
  [[nodiscard]] unsigned decode(u8 value) const;
  [[nodiscard]] u8 encode_hour(unsigned hour) const;
  [[nodiscard]] unsigned decode_hour(u8 value) const;
  void show_time();
  void take_time();
  [[nodiscard]] bool alarm_matches(i64 second) const;
  [[nodiscard]] bool alarm_between(i64 first, i64 last) const;
  void catch_up();
  void drive();
  void schedule();
  void expired();
  [[nodiscard]] Nanoseconds now() const { return clock_.now(); }

  Bus &bus_;
  const Clock &clock_;
  IrqLine &irq8_;
  State s_;
  u64 periods_seen_ = 0; // periodic ticks since start_, up to which register C has been told
  // The two readings of the clock at one moment: seconds pass by its monotonic time, so that their boundaries are
  // known.
  u64 wall_start_;
  Nanoseconds start_;
  std::unique_ptr<Timer> timer_; // last: its destructor waits for expired()
};

} // namespace abyme
