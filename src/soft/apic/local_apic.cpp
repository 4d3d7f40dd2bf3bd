#include "soft/apic/local_apic.hpp"
#include "soft/apic/apic_bus.hpp"
#include <bit>

namespace abyme::soft {

using namespace apic;

namespace {

using VectorSet = std::array<u32, 8>;

std::optional<u8> highest(const VectorSet &set) {
  for (int word = 7; word >= 0; --word)
    if (set[word] != 0) return static_cast<u8>(word * 32 + 31 - std::countl_zero(set[word]));
  return std::nullopt;
}
bool contains(const VectorSet &set, u8 vector) { return set[vector / 32] >> vector % 32 & 1; }
void put(VectorSet &set, u8 vector, bool on) {
  const u32 bit = 1u << vector % 32;
  if (on)
    set[vector / 32] |= bit;
  else
    set[vector / 32] &= ~bit;
}
constexpr u8 priority_class(u8 value) { return value & 0xf0; }

} // namespace

LocalApic::LocalApic(const Config &config, ApicBus &bus, CpuSignals &signals, TimerService &timers, EoiListener &eoi)
    : config_(config), bus_(bus), signals_(signals), eoi_(eoi), timer_(timers, [this] { timer_expired(); }) {
  reset();
  bus_.add(*this);
}

LocalApic::~LocalApic() { bus_.remove(*this); }

void LocalApic::reset() {
  const Lock guard(mutex_);
  s_.base = kDefaultBase | kBaseEnable | (config_.bsp ? kBaseBsp : 0);
  s_.xapic_id = static_cast<u8>(config_.id);
  reset_registers();
}

// SDM 3A §11.4.7.3; in x2APIC mode the mode stays (§11.12.5.1).
void LocalApic::init() {
  const Lock guard(mutex_);
  reset_registers();
}

// SDM 3A §11.4.7.1.
void LocalApic::reset_registers() {
  s_.tpr = 0;
  s_.ldr = x2apic() ? x2apic_ldr() : 0;
  s_.dfr = ~0u;
  s_.svr = 0xff;
  clear_vectors();
  s_.esr = s_.errors = 0;
  s_.icr = 0;
  s_.lvt.fill(kLvtMasked);
  timer_.reset();
}

void LocalApic::clear_vectors() {
  s_.isr.fill(0);
  s_.tmr.fill(0);
  s_.irr.fill(0);
}

void LocalApic::enter_virtual_wire_mode() {
  const Lock guard(mutex_);
  s_.svr |= kSvrEnable;
  s_.lvt[kLint0] = static_cast<u32>(DeliveryMode::ExtInt) << 8;
  s_.lvt[kLint1] = static_cast<u32>(DeliveryMode::Nmi) << 8;
}

void LocalApic::perform(const Effects &effects) {
  if (effects.broadcast_eoi) eoi_.end_of_interrupt(*effects.broadcast_eoi);
  if (effects.send) bus_.send(*effects.send, *this);
  if (effects.interrupt) signals_.interrupt();
  if (effects.nmi) signals_.nmi();
  if (effects.init) signals_.init();
}

// §11.8.3.1
u8 LocalApic::ppr() const {
  const u8 in_service = priority_class(highest(s_.isr).value_or(0));
  return priority_class(s_.tpr) >= in_service ? s_.tpr : in_service;
}

std::optional<u8> LocalApic::deliverable() const {
  const auto vector = highest(s_.irr);
  if (!hardware_enabled() || !vector || priority_class(*vector) <= priority_class(ppr())) return std::nullopt;
  return vector;
}

std::optional<u8> LocalApic::pending_vector() const {
  const Lock guard(mutex_);
  return deliverable();
}

u8 LocalApic::acknowledge() {
  const Lock guard(mutex_);
  const auto vector = deliverable();
  if (!vector) return static_cast<u8>(s_.svr);
  put(s_.irr, *vector, false);
  put(s_.isr, *vector, true);
  return *vector;
}

bool LocalApic::accepts_external() const {
  const Lock guard(mutex_);
  if (!hardware_enabled()) return true;
  const u32 lint0 = s_.lvt[kLint0];
  return !(lint0 & kLvtMasked) && static_cast<DeliveryMode>(lint0 >> 8 & 7) == DeliveryMode::ExtInt;
}

u8 LocalApic::priority() const {
  const Lock guard(mutex_);
  return ppr();
}

// While software-disabled an APIC still takes NMI, INIT and SIPI, but no vector (§11.4.7.2).
void LocalApic::take_fixed(u8 vector, bool level, Effects &effects) {
  if (!hardware_enabled() || !software_enabled()) return;
  if (vector < kFirstLegalVector) {
    note_error(kErrorReceivedIllegalVector, effects);
    return;
  }
  put(s_.irr, vector, true);
  put(s_.tmr, vector, level);
  effects.interrupt = true;
}

void LocalApic::accept(DeliveryMode mode, u8 vector, bool level) {
  Effects effects;
  {
    const Lock guard(mutex_);
    if (!hardware_enabled()) return;
    if (mode == DeliveryMode::Fixed || mode == DeliveryMode::LowestPriority) take_fixed(vector, level, effects);
    effects.nmi = mode == DeliveryMode::Nmi;
    effects.init = mode == DeliveryMode::Init;
  }
  perform(effects);
  if (mode == DeliveryMode::StartUp) signals_.sipi(vector);
}

void LocalApic::deliver_lvt(Lvt row, Effects &effects) {
  const u32 entry = s_.lvt[row];
  if (entry & kLvtMasked) return;
  const u8 vector = static_cast<u8>(entry);
  const bool has_mode = kLvtWritable[row] & kLvtDeliveryMode;
  switch (has_mode ? static_cast<DeliveryMode>(entry >> 8 & 7) : DeliveryMode::Fixed) {
  case DeliveryMode::Fixed: take_fixed(vector, false, effects); break;
  case DeliveryMode::Nmi: effects.nmi = true; break;
  case DeliveryMode::Init: effects.init = true; break;
  case DeliveryMode::ExtInt: effects.interrupt = true; break;
  case DeliveryMode::LowestPriority:
  case DeliveryMode::Smi:
  case DeliveryMode::StartUp: break; // not for the LVT, or without a receiver
  }
}

// An error notes itself before its interrupt is raised, so that an illegal error vector cannot recurse (§11.5.3).
void LocalApic::note_error(u32 error, Effects &effects) {
  if (s_.errors & error) return;
  s_.errors |= error;
  deliver_lvt(kError, effects);
}

void LocalApic::set_lint(unsigned pin, bool level) {
  Effects effects;
  {
    const Lock guard(mutex_);
    const Lvt row = pin == 0 ? kLint0 : kLint1;
    const bool rising = level && !s_.lint[pin & 1];
    s_.lint[pin & 1] = level;
    if (!hardware_enabled()) {
      effects.interrupt = pin == 0; // INTR and NMI of a CPU without an APIC (§11.4.3)
      effects.nmi = pin == 1 && rising;
    } else if (rising) {
      deliver_lvt(row, effects);
    }
  }
  perform(effects);
}

void LocalApic::timer_expired() {
  Effects effects;
  {
    const Lock guard(mutex_);
    if (timer_.take_expiry()) deliver_lvt(kTimer, effects);
  }
  perform(effects);
}

void LocalApic::end_of_interrupt(Effects &effects) {
  const auto vector = highest(s_.isr);
  if (!vector) return;
  put(s_.isr, *vector, false);
  if (contains(s_.tmr, *vector) && !(s_.svr & kSvrSuppressEoiBroadcast)) effects.broadcast_eoi = *vector;
  effects.interrupt = deliverable().has_value();
}

u8 LocalApic::cr8() const {
  const Lock guard(mutex_);
  return s_.tpr >> 4;
}

void LocalApic::set_cr8(u8 value) {
  Effects effects;
  {
    const Lock guard(mutex_);
    s_.tpr = static_cast<u8>(value << 4);
    effects.interrupt = deliverable().has_value();
  }
  perform(effects);
}

u64 LocalApic::tsc_deadline() const {
  const Lock guard(mutex_);
  return timer_.tsc_deadline();
}

void LocalApic::set_tsc_deadline(u64 tsc) {
  const Nanoseconds when = signals_.time_of_tsc(tsc);
  const Lock guard(mutex_);
  timer_.set_tsc_deadline(tsc, when);
}

void LocalApic::tsc_changed() {
  if (const u64 armed = tsc_deadline(); armed != 0) set_tsc_deadline(armed);
}

u64 LocalApic::apic_base() const {
  const Lock guard(mutex_);
  return s_.base;
}

// §11.12.5: to and from x2APIC mode only as in figure 11-27.
bool LocalApic::set_apic_base(u64 value) {
  const u64 physical = config_.physical_bits >= 64 ? ~0ull : (1ull << config_.physical_bits) - 1;
  const u64 reserved = ~physical | kBaseReservedLow | (config_.x2apic ? 0 : kBaseX2apic);
  if (value & reserved) return false;
  {
    const Lock guard(mutex_);
    const bool to_enabled = value & kBaseEnable, to_x2apic = value & kBaseX2apic;
    if (to_x2apic && (!to_enabled || !hardware_enabled())) return false;
    if (x2apic() && to_enabled && !to_x2apic) return false;
    const bool entering = to_x2apic && !x2apic(), leaving = hardware_enabled() && !to_enabled;
    s_.base = value;
    if (entering) enter_x2apic();
    if (leaving) s_.xapic_id = static_cast<u8>(config_.id);
    if (leaving) reset_registers();
  }
  perform({.interrupt = true}); // LINT0 may mean something else now
  return true;
}

// §11.12.5.1: the rest of the state stays.
void LocalApic::enter_x2apic() {
  s_.ldr = x2apic_ldr();
  s_.icr &= 0xffff'ffff;
}

std::optional<Gpa> LocalApic::page() const {
  const Lock guard(mutex_);
  if (!hardware_enabled() || x2apic()) return std::nullopt;
  return Gpa(s_.base & kPageMask);
}

bool LocalApic::matches_logical(u32 destination) const {
  if (x2apic()) return destination >> 16 == s_.ldr >> 16 && (destination & s_.ldr & 0xffff) != 0;
  const u32 mine = s_.ldr >> 24;
  if (destination > 0xff) return false;
  switch (s_.dfr >> 28) {
  case 0xf: return (destination & mine) != 0;
  case 0x0: return destination >> 4 == mine >> 4 && (destination & mine & 0xf) != 0;
  default: return false; // no other model is defined (§11.6.2.2)
  }
}

bool LocalApic::matches(const Message &message) const {
  const Lock guard(mutex_);
  if (!hardware_enabled() || (message.lowest && !software_enabled())) return false;
  if (message.destination == message.broadcast) return true;
  if (message.logical) return matches_logical(message.destination);
  return message.destination == (x2apic() ? config_.id : s_.xapic_id);
}

LocalApic::State LocalApic::save() const {
  const Lock guard(mutex_);
  State saved = s_;
  saved.timer = timer_.save();
  return saved;
}

void LocalApic::restore(const State &state) {
  const Nanoseconds when = signals_.time_of_tsc(state.timer.tsc_deadline);
  Effects effects;
  {
    const Lock guard(mutex_);
    s_ = state;
    s_.timer = {};
    timer_.restore(state.timer, when);
    effects.interrupt = true;
  }
  perform(effects);
}

} // namespace abyme::soft
