#pragma once
#include "soft/apic/apic_registers.hpp"
#include <vector>

namespace abyme::soft {

class LocalApic;

// All local APICs of a VM: finds who a message is for. An APIC adds and removes itself, while no vCPU and no device
// runs; everything else is safe from any thread.
class ApicBus {
public:
  // An MSI, or what an I/O APIC sends (SDM 3A §11.11). An address outside of FEExxxxxh has no receiver.
  void message(u64 address, u32 data);
  // What a write to the sender's interrupt command register asks for (§11.6.1).
  void send(u64 icr, LocalApic &sender);

private:
  friend class LocalApic;
  void add(LocalApic &apic);
  void remove(LocalApic &apic);
  void deliver(const apic::Message &message);

  std::vector<LocalApic *> apics_;
};

} // namespace abyme::soft
