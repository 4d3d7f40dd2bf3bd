// The local APIC's registers as software reads and writes them: memory-mapped and as MSRs.
#include "soft/apic/apic_bus.hpp"
#include "soft/apic/local_apic.hpp"
#include <utility>

namespace abyme::soft {

using namespace apic;

namespace {

constexpr bool is_lvt(u32 reg) { return reg >= kLvtTimer && reg <= kLvtError; }
constexpr Lvt lvt_row(u32 reg) { return static_cast<Lvt>((reg - kLvtTimer) >> 4); }
constexpr u64 low_bits(unsigned size) { return size >= 8 ? ~0ull : (1ull << size * 8) - 1; }

} // namespace

std::optional<u32> LocalApic::load(u32 reg) const {
  if (reg >= kIsr && reg < kTmr) return s_.isr[(reg - kIsr) >> 4];
  if (reg >= kTmr && reg < kIrr) return s_.tmr[(reg - kTmr) >> 4];
  if (reg >= kIrr && reg < kEsr) return s_.irr[(reg - kIrr) >> 4];
  if (is_lvt(reg)) return s_.lvt[lvt_row(reg)];
  switch (reg) {
  case kId: return x2apic() ? config_.id : u32{s_.xapic_id} << 24;
  case kVersion: return kVersionValue;
  case kTpr: return s_.tpr;
  case kPpr: return ppr();
  case kEoi: return 0; // write-only; reads as zero in the page
  case kLdr: return s_.ldr;
  case kDfr: return s_.dfr;
  case kSvr: return s_.svr;
  case kEsr: return s_.esr;
  case kIcrLow: return static_cast<u32>(s_.icr);
  case kIcrHigh: return static_cast<u32>(s_.icr >> 32);
  case kInitialCount: return timer_.initial();
  case kCurrentCount: return timer_.current();
  case kDivide: return timer_.divide();
  default: return std::nullopt;
  }
}

// Registers that both interfaces write alike; false where there is none to write.
bool LocalApic::store(u32 reg, u32 value, Effects &effects) {
  if (is_lvt(reg)) {
    set_lvt(lvt_row(reg), value);
    effects.interrupt = true; // LINT0 may let the PIC through now
    return true;
  }
  switch (reg) {
  case kTpr:
    s_.tpr = static_cast<u8>(value);
    effects.interrupt = deliverable().has_value();
    return true;
  case kEoi: end_of_interrupt(effects); return true;
  case kSvr: set_svr(value & kSvrWritable); return true;
  case kEsr: // a write makes readable what has been noticed since the last one (§11.5.3)
    s_.esr = std::exchange(s_.errors, 0);
    return true;
  case kInitialCount: timer_.set_initial(value); return true;
  case kDivide: timer_.set_divide(value & kDivideWritable); return true;
  default: return false;
  }
}

// Clearing the enable bit masks every row, and they stay so until it is set again (§11.4.7.2).
void LocalApic::set_svr(u32 value) {
  s_.svr = value;
  if (software_enabled()) return;
  for (u32 &row : s_.lvt) row |= kLvtMasked;
}

void LocalApic::set_lvt(Lvt row, u32 value) {
  u32 writable = kLvtWritable[row];
  if (row == kTimer && !config_.tsc_deadline) writable &= ~(2u << 17);
  s_.lvt[row] = value & writable;
  if (!software_enabled()) s_.lvt[row] |= kLvtMasked;
  if (row == kTimer) timer_.set_mode(static_cast<ApicTimer::Mode>(s_.lvt[row] >> 17 & 3));
}

void LocalApic::start_ipi(u64 icr, Effects &effects) {
  s_.icr = icr & ~kIcrDeliveryStatus;
  const auto mode = static_cast<DeliveryMode>(icr >> 8 & 7);
  const bool has_vector = mode == DeliveryMode::Fixed || mode == DeliveryMode::LowestPriority;
  if (has_vector && static_cast<u8>(icr) < kFirstLegalVector)
    note_error(kErrorSendIllegalVector, effects);
  else
    effects.send = s_.icr;
}

u64 LocalApic::read(u32 offset, unsigned size) {
  Effects effects;
  u64 value = 0;
  {
    const Lock guard(mutex_);
    const u32 within = offset & 15;
    const auto found = load(offset & 0xff0);
    if (!found)
      note_error(kErrorIllegalRegister, effects);
    else if (within < 4)
      value = *found >> within * 8 & low_bits(size);
  }
  perform(effects);
  return value;
}

void LocalApic::write(u32 offset, unsigned size, u64 value) {
  if (size != 4 || offset & 15) return; // undefined (§11.4.1)
  const u32 dword = static_cast<u32>(value);
  Effects effects;
  {
    const Lock guard(mutex_);
    switch (offset) {
    case kId: s_.xapic_id = static_cast<u8>(dword >> 24); break;
    case kLdr: s_.ldr = dword & 0xff00'0000; break;
    case kDfr: s_.dfr = dword | 0x0fff'ffff; break;
    case kIcrLow: start_ipi((s_.icr & ~0xffff'ffffull) | (dword & ~kIcrReserved), effects); break;
    case kIcrHigh: s_.icr = (s_.icr & 0xffff'ffff) | u64{dword & 0xff00'0000} << 32; break;
    default:
      if (!store(offset, dword, effects) && !load(offset)) note_error(kErrorIllegalRegister, effects);
    }
  }
  perform(effects);
}

std::optional<u64> LocalApic::msr_read(u32 msr) {
  const u32 reg = (msr - kMsrBase) << 4;
  const Lock guard(mutex_);
  if (msr < kMsrBase || msr > kMsrLast || !hardware_enabled() || !x2apic()) return std::nullopt;
  switch (reg) {
  case kIcrLow: return s_.icr;
  case kEoi: // write-only
  case kDfr: // not there in x2APIC mode (table 11-6)
  case kIcrHigh: return std::nullopt;
  default: break;
  }
  const auto value = load(reg);
  return value ? std::optional<u64>(*value) : std::nullopt;
}

// The bits whose setting is #GP in x2APIC mode (§11.12.1.2, §11.12.1.3).
u64 LocalApic::msr_reserved(u32 reg) {
  constexpr u64 kHigh = ~0xffff'ffffull;
  if (is_lvt(reg)) return kHigh | (0xffff'ffff & ~(kLvtWritable[lvt_row(reg)] | kLvtDeliveryStatus | kLvtRemoteIrr));
  switch (reg) {
  case kTpr:
  case kSelfIpi: return ~0xffull;
  case kEoi:
  case kEsr: return ~0ull;
  case kSvr: return ~u64{kSvrWritable};
  case kDivide: return ~u64{kDivideWritable};
  case kIcrLow: return kIcrReserved;
  default: return kHigh;
  }
}

bool LocalApic::store_msr(u32 reg, u64 value, Effects &effects) {
  if (value & msr_reserved(reg)) return false;
  switch (reg) {
  case kIcrLow: start_ipi(value, effects); return true;
  case kSelfIpi: start_ipi(u64{static_cast<u8>(Shorthand::Self)} << 18 | value, effects); return true;
  default: return store(reg, static_cast<u32>(value), effects);
  }
}

bool LocalApic::msr_write(u32 msr, u64 value) {
  if (msr < kMsrBase || msr > kMsrLast) return false;
  Effects effects;
  {
    const Lock guard(mutex_);
    if (!hardware_enabled() || !x2apic()) return false;
    if (!store_msr((msr - kMsrBase) << 4, value, effects)) return false;
  }
  perform(effects);
  return true;
}

} // namespace abyme::soft
