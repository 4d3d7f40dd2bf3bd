#pragma once
#include "base/int.hpp"

namespace abyme::soft {

// What an event is, with the numbers of the VM-entry interruption-information field's type (SDM 3C §25.8.3).
enum class EventType : u8 {
  ExternalInterrupt = 0,
  Nmi = 2,
  HardwareException = 3,
  SoftwareInterrupt = 4,           // INT n
  PrivilegedSoftwareException = 5, // INT1
  SoftwareException = 6,           // INT3, INTO
};

// Something to be delivered through the IDT.
struct Event {
  EventType type = EventType::HardwareException;
  u8 vector = 0;
  bool has_error = false;
  u32 error = 0;
  u8 length = 0;        // of the instruction, for the software ones
  u64 address = 0;      // #PF: what CR2 becomes; #DB: the bits that DR6 gets (DR6 format)
};

// Why an instruction, or the delivery of an event, could not complete. Faults are values: a handler stores one in Cpu::fault and returns.
struct Fault {
  enum class Kind : u8 {
    None,
    Exception,        // event
    EptViolation,     // VM exit 48: qualification, guest_physical, guest_linear
    EptMisconfig,     // VM exit 49: guest_physical
    VmExit,           // VM exit `exit_reason` that an access causes: qualification, guest_linear, guest_physical
    VmxAbort,         // the run ends
    InternalError,    // an impossible state: text names it; the VM ends with a dump
    Retry,            // nothing happened: run the instruction again (attention first)
  };
  Kind kind = Kind::None;
  Event event{};
  u64 qualification = 0;
  u64 guest_physical = 0;
  u64 guest_linear = 0;
  const char *text = nullptr;
  bool non_canonical = false; // the #GP(0) of a data access whose linear address is not canonical: #SS(0) through SS
  u16 exit_reason = 0;
  bool suppress_ve = false; // EptViolation: bit 63 of the EPT entry that it came from

  // Whether vmx::ept_fault() deals with it.
  [[nodiscard]] constexpr bool is_memory_exit() const {
    return kind == Kind::EptViolation || kind == Kind::EptMisconfig || kind == Kind::VmExit;
  }
};

} // namespace abyme::soft
