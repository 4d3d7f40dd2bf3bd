#pragma once
#include "net/frame/mac.hpp"
#include <optional>

namespace abyme::net {

// The layer-2 security policy in ESXi's terms (vSphere Networking, "Securing vSphere Standard Switch Ports"). True is
// accept.
struct SecurityPolicy {
  bool promiscuous = false;      // a guest that asks for all frames gets them
  bool mac_changes = false;      // a guest may receive at an address other than its initial one
  bool forged_transmits = false; // a guest may send from an address other than its effective one
  // Which frames an accepted promiscuous guest sees: all of the switch that its VLANs allow, as ESXi does, or only
  // those from or to its port group.
  enum class Scope : u8 { Switch, PortGroup } scope = Scope::Switch;
  bool operator==(const SecurityPolicy &) const = default;
};

// What a port group or a port says otherwise.
struct SecurityOverride {
  std::optional<bool> promiscuous = {}, mac_changes = {}, forged_transmits = {};
  std::optional<SecurityPolicy::Scope> scope = {};
  bool operator==(const SecurityOverride &) const = default;
  [[nodiscard]] SecurityPolicy over(const SecurityPolicy &base) const {
    return {.promiscuous = promiscuous.value_or(base.promiscuous),
            .mac_changes = mac_changes.value_or(base.mac_changes),
            .forged_transmits = forged_transmits.value_or(base.forged_transmits),
            .scope = scope.value_or(base.scope)};
  }
};

// What the switch knows of a guest's adapter.
struct Adapter {
  MacAddress initial = {};   // what the VM's configuration says; zero: not known yet
  MacAddress effective = {}; // what the guest set; the initial one until then
  bool promiscuous = false;  // the guest asked for all frames
};

// MAC address changes: rejected, and the guest changed its address: it receives nothing until it changes it back.
[[nodiscard]] inline bool may_receive(const SecurityPolicy &policy, const Adapter &adapter) {
  return policy.mac_changes || adapter.effective == adapter.initial;
}

// Forged transmits: compared with the effective address, not the initial one.
[[nodiscard]] inline bool may_send_from(const SecurityPolicy &policy, const Adapter &adapter, MacAddress source) {
  return policy.forged_transmits || source == adapter.effective;
}

} // namespace abyme::net
