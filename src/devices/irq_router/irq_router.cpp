#include "devices/irq_router/irq_router.hpp"

namespace abyme {
namespace {

// GSI 2 is ISA IRQ 0, whose own number in the PIC's pair is taken by nothing else; GSI 0 is not wired to the PIC.
std::optional<unsigned> pic_irq(unsigned gsi) {
  if (gsi == 2) return 0;
  return gsi >= 1 && gsi < 16 ? std::optional(gsi) : std::nullopt;
}

} // namespace

class IrqRouter::Wire final : public IrqLine {
public:
  Wire(IrqRouter &router, unsigned gsi) : router_(router), gsi_(gsi) {}
  void set(bool level) override {
    if (level == level_) return;
    level_ = level;
    router_.drive(gsi_, level);
  }

private:
  IrqRouter &router_;
  unsigned gsi_;
  bool level_ = false;
};

IrqRouter::IrqRouter(Pic &pic, IoApic &ioapic) : pic_(pic), ioapic_(ioapic) {}
IrqRouter::~IrqRouter() = default;

IrqLine &IrqRouter::gsi(unsigned number) {
  wires_.push_back(std::make_unique<Wire>(*this, number % kGsis));
  return *wires_.back();
}

void IrqRouter::drive(unsigned number, bool rises) {
  asserted_[number] += rises ? 1 : -1;
  const bool level = asserted_[number] != 0;
  if (const auto irq = pic_irq(number)) pic_.set_irq(*irq, level);
  ioapic_.set_pin(number, level);
}

} // namespace abyme
