#pragma once
#include "devices/i8259/pic.hpp"
#include "devices/ioapic/ioapic.hpp"
#include <memory>
#include <optional>
#include <vector>

namespace abyme {

// Wires devices to both interrupt controllers. Each source gets a wire of its own; those of one pin are or-ed, as on a
// shared line. Wires are driven with the device lock held and live as long as the router. There is nothing to save: a
// device drives its wires when restored.
class IrqRouter {
public:
  static constexpr unsigned kGsis = IoApic::kPins;

  IrqRouter(Pic &pic, IoApic &ioapic);
  ~IrqRouter();
  // A new wire to ISA IRQ 0 to 15: the PIC's pin, and the I/O APIC's of the same number but for IRQ 0, which is GSI 2.
  [[nodiscard]] IrqLine &isa(unsigned irq) { return gsi(irq == 0 ? 2 : irq); }
  // A new wire to GSI 0 to 23. Those below 16 reach the PIC too.
  [[nodiscard]] IrqLine &gsi(unsigned number);

private:
  class Wire;
  void drive(unsigned number, bool rises);

  Pic &pic_;
  IoApic &ioapic_;
  std::array<unsigned, kGsis> asserted_{}; // how many wires of each are high
  std::vector<std::unique_ptr<Wire>> wires_;
};

} // namespace abyme
