#pragma once
#include "bus/byte_registers.hpp"
#include "devices/pci/pci_function.hpp"

namespace abyme {

// The root of PCI bus 0: configuration space through ports 0xCF8/0xCFC and through ECAM, a host bridge in slot 0, and
// the window in which BARs get their first addresses, since there is no firmware to give them any.
class PciHost {
public:
  static constexpr Gpa kEcam{0xE000'0000};
  static constexpr unsigned kBuses = 256;
  static constexpr Gpa kWindowStart{0xC000'0000};
  static constexpr Gpa kWindowEnd{0xE000'0000};
  static constexpr unsigned kSlots = 32;

  // `reset_control` answers byte accesses to port 0xCF9, which lies inside of the address register.
  PciHost(Bus &bus, InterruptSink &sink, RegisterBlock &reset_control);
  ~PciHost();
  PciHost(const PciHost &) = delete;
  PciHost &operator=(const PciHost &) = delete;

  // The GSI that INTA# of a slot is wired to; the machine's ACPI tables say the same.
  [[nodiscard]] static constexpr unsigned intx_gsi(unsigned slot) { return 16 + slot % 8; }
  // Puts a function, which must outlive this, into slot 1 to 31. `intx` is a wire of its own into GSI intx_gsi(slot).
  [[nodiscard]] Result<void> attach(unsigned slot, PciFunction &function, IrqLine &intx);
  void reset();

  struct State {
    u32 address = 0;
    PciFunction::State bridge;
    bool operator==(const State &) const = default;
  };
  [[nodiscard]] State save() const { return {address_, bridge_.save_function()}; }
  void restore(const State &state);

private:
  u64 read_ports(u64 offset, unsigned size);
  void write_ports(u64 offset, unsigned size, u64 value);
  u64 read_ecam(u64 offset, unsigned size);
  void write_ecam(u64 offset, unsigned size, u64 value);
  [[nodiscard]] PciFunction *at(u64 bus, u64 slot, u64 function) const {
    return bus == 0 && function == 0 ? slots_[slot] : nullptr;
  }
  [[nodiscard]] PciFunction *addressed() const;

  Bus &bus_;
  RegisterBlock &reset_control_;
  PciFunction bridge_;
  std::array<PciFunction *, kSlots> slots_{};
  u64 next_address_ = kWindowStart.value; // of the window, not yet given away
  u32 address_ = 0;                       // CONFIG_ADDRESS
  MemberBlock<PciHost> ports_, ecam_;
};

} // namespace abyme
