#include "soft/apic/apic_bus.hpp"
#include "soft/apic/local_apic.hpp"
#include <algorithm>

namespace abyme::soft {

using namespace apic;

namespace {

constexpr u64 kMessageAddress = 0xfee0'0000;
constexpr u64 kMessageRedirect = 1 << 3;
constexpr u64 kMessageLogical = 1 << 2;
constexpr u32 kMessageLevel = 1 << 15;
constexpr u32 kMessageAssert = 1 << 14;

constexpr DeliveryMode delivery_mode(u64 bits) { return static_cast<DeliveryMode>(bits >> 8 & 7); }

} // namespace

void ApicBus::add(LocalApic &apic) { apics_.push_back(&apic); }
void ApicBus::remove(LocalApic &apic) { std::erase(apics_, &apic); }

void ApicBus::message(u64 address, u32 data) {
  if ((address & ~0xf'ffffull) != kMessageAddress) return;
  const bool level = data & kMessageLevel;
  if (level && !(data & kMessageAssert)) return; // a deassertion changes nothing: the EOI ends a level
  const DeliveryMode mode = delivery_mode(data);
  deliver({.mode = mode,
           .vector = static_cast<u8>(data),
           .level = level,
           .logical = (address & kMessageLogical) != 0,
           .destination = static_cast<u32>(address >> 12 & 0xff),
           .broadcast = 0xff,
           .lowest = mode == DeliveryMode::LowestPriority || (address & kMessageRedirect)});
}

void ApicBus::send(u64 icr, LocalApic &sender) {
  const DeliveryMode mode = delivery_mode(icr);
  // INIT level de-assert only synchronized arbitration IDs, which no longer exist (§11.6.1).
  if (mode == DeliveryMode::Init && (icr & kIcrLevel) && !(icr & kIcrAssert)) return;
  const u8 vector = static_cast<u8>(icr);
  const auto shorthand = static_cast<Shorthand>(icr >> 18 & 3);
  if (shorthand == Shorthand::None) {
    const bool wide = sender.apic_base() & kBaseX2apic;
    deliver({.mode = mode,
             .vector = vector,
             .level = false, // IPIs are edge-triggered
             .logical = (icr & kIcrLogical) != 0,
             .destination = static_cast<u32>(wide ? icr >> 32 : icr >> 56),
             .broadcast = wide ? 0xffff'ffff : 0xff,
             .lowest = mode == DeliveryMode::LowestPriority});
    return;
  }
  for (LocalApic *apic : apics_) {
    const bool self = apic == &sender;
    if (self ? shorthand != Shorthand::AllExcludingSelf : shorthand != Shorthand::Self)
      apic->accept(mode, vector, false);
  }
}

void ApicBus::deliver(const Message &message) {
  LocalApic *lowest = nullptr;
  u8 lowest_priority = 0xff;
  for (LocalApic *apic : apics_) {
    if (!apic->matches(message)) continue;
    if (!message.lowest) {
      apic->accept(message.mode, message.vector, message.level);
      continue;
    }
    const u8 priority = apic->priority();
    if (lowest != nullptr && priority >= lowest_priority) continue;
    lowest = apic;
    lowest_priority = priority;
  }
  if (lowest != nullptr) lowest->accept(message.mode, message.vector, message.level);
}

} // namespace abyme::soft
