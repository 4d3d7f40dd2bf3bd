#include "soft/system/fault_rules.hpp"
#include "soft/mmu/access.hpp"
#include "soft/system/deliver.hpp"
#include "soft/system/system.hpp"
#include "soft/vmx/vmx.hpp"

namespace abyme::soft::system {

using namespace x86;

namespace {

enum class Class : u8 { Benign, Contributory, PageFault, DoubleFault };

// SDM 3A table 6-4. Interrupts, NMIs and software events are benign whatever their vector.
Class class_of(const Event &event) {
  if (event.type != EventType::HardwareException) return Class::Benign;
  switch (event.vector) {
  case DE:
  case TS:
  case NP:
  case SS_:
  case GP:
  case CP: return Class::Contributory;
  case PF:
  case VE: return Class::PageFault;
  case DF: return Class::DoubleFault;
  default: return Class::Benign;
  }
}

} // namespace

Escalation escalate(const Event &first, const Event &second) {
  Class one = class_of(first), two = class_of(second);
  if (two == Class::Benign || one == Class::Benign) return Escalation::Serial;
  if (one == Class::DoubleFault) return Escalation::TripleFault;
  if (one == Class::Contributory && two == Class::PageFault) return Escalation::Serial;
  return Escalation::DoubleFault;
}

namespace {

// What an exception leaves behind besides its frame. VM-entry injection does not come here: it changes neither (SDM 3C
// §27.6.1).
void record(Cpu &cpu, const Event &event) {
  constexpr u64 kRtm = 1 << 16, kBreakpoints = 15;
  constexpr u64 kGeneralDetectEnable = 1 << 13;
  if (event.type != EventType::HardwareException) return;
  if (event.vector == PF) cpu.cr2 = event.address;
  if (event.vector == DB) {
    cpu.dr6 = (cpu.dr6 & ~kBreakpoints) | (event.address & ~kRtm);
    cpu.dr7 &= ~kGeneralDetectEnable;
  }
}

void shut_down(Cpu &cpu) {
  cpu.delivering = false;
  if (!vmx::intercepts_triple_fault(cpu)) cpu.activity = Activity::Shutdown;
}

enum class Step : u8 { Deliver, Done };

// The next exception to deliver: cpu.fault's, after its VM exit and the rules for one during another.
Step next_event(Cpu &cpu, Event &event) {
  event = cpu.fault.event;
  cpu.fault.kind = Fault::Kind::None;
  Event first = cpu.vectoring;
  bool nested = cpu.delivering;
  bool exited = vmx::intercepts_event(cpu, event);
  cpu.delivering = false;
  if (exited) return Step::Done;
  record(cpu, event);
  Escalation becomes = nested ? escalate(first, event) : Escalation::Serial;
  if (becomes == Escalation::Serial) return Step::Deliver;
  if (becomes == Escalation::TripleFault) {
    shut_down(cpu);
    return Step::Done;
  }
  event = {.type = EventType::HardwareException, .vector = DF, .has_error = true, .error = 0};
  return vmx::intercepts_event(cpu, event) ? Step::Done : Step::Deliver;
}

// True: delivered. False: cpu.fault is what stopped it, with cpu.vectoring still under way.
bool attempt(Cpu &cpu, const Event &event) {
  cpu.delivering = true;
  cpu.vectoring = event;
  if (!deliver(cpu, event)) return false;
  cpu.delivering = false;
  return true;
}

// Something other than an exception stopped it.
void leave_delivery(Cpu &cpu) {
  if (cpu.fault.is_memory_exit()) vmx::ept_fault(cpu);
  const Fault::Kind kind = cpu.fault.kind;
  if (kind != Fault::Kind::VmxAbort && kind != Fault::Kind::InternalError) cpu.fault.kind = Fault::Kind::None;
  cpu.delivering = false;
}

} // namespace

void deliver_fault(Cpu &cpu) {
  // Benign exceptions can follow one another for ever (an #AC whose handler's frame is misaligned). Silicon then hangs;
  // here the instruction starts over, so that the vCPU can still be stopped.
  constexpr unsigned kMostNested = 16;
  for (unsigned i = 0; i < kMostNested; i++) {
    if (cpu.fault.kind != Fault::Kind::Exception) return leave_delivery(cpu);
    Event event;
    if (next_event(cpu, event) == Step::Done || attempt(cpu, event)) return;
  }
  leave_delivery(cpu);
}

void deliver_event(Cpu &cpu, const Event &event) {
  if (!attempt(cpu, event)) deliver_fault(cpu);
}

} // namespace abyme::soft::system
