#include "net/control/reports.hpp"

namespace abyme::net {
namespace {

using nlohmann::json;

std::string describe(const VlanSettings &v) {
  switch (v.mode) {
  case VlanMode::None: return "none";
  case VlanMode::External: return "none, external tagging";
  case VlanMode::Access: return fmt::format("{}", v.access.value);
  case VlanMode::Trunk: break;
  }
  const std::string range = to_string(v.trunk);
  return fmt::format("trunk {}{}", range == "0-4094" ? "all" : range,
                     v.native ? fmt::format(", native {}", v.native->value) : "");
}

json describe(const SecurityPolicy &p) {
  const auto word = [](bool accept) { return accept ? "accept" : "reject"; };
  return {{"promiscuous", word(p.promiscuous)},
          {"promiscuous_scope", p.scope == SecurityPolicy::Scope::Switch ? "switch" : "port_group"},
          {"mac_changes", word(p.mac_changes)},
          {"forged_transmits", word(p.forged_transmits)}};
}

std::string state_of(const ManagedPort &p) {
  if (!p.config().link.up) return "down";
  if (p.on().guard_tripped(p.index())) return "shut by BPDU guard";
  return p.on().connected(p.index()) ? "connected" : "waiting";
}

json describe_link(const LinkSettings &l) {
  json out = {{"up", l.up}};
  if (l.loss > 0) out["loss"] = l.loss;
  if (l.delay) out["delay"] = fmt::format("{}us", l.delay / 1000);
  if (l.jitter) out["jitter"] = fmt::format("{}us", l.jitter / 1000);
  if (l.rate) out["rate"] = l.rate;
  return out;
}

json drops_of(const PortCounters &c) {
  json out = json::object();
  for (const ReasonRow &r : reason_table())
    if (const u64 n = c.drops[static_cast<unsigned>(r.reason)]; n) out[std::string(r.name)] = n;
  return out;
}

std::string label(std::string text) { // Prometheus escapes these three
  std::string out;
  for (char c : text) out += c == '\\' ? "\\\\" : c == '"' ? "\\\"" : c == '\n' ? "\\n" : std::string(1, c);
  return out;
}

} // namespace

json report_configuration(Daemon &d) {
  json switches = json::object();
  for (const auto &[name, sw] : d.switches()) {
    const SwitchConfig &c = d.config().switches.at(name);
    switches[name] = {{"mtu", c.settings.mtu},
                      {"snooping", c.settings.snooping},
                      {"ageing", c.settings.ageing_seconds ? fmt::format("{}s", *c.settings.ageing_seconds) : "none"},
                      {"policy", describe(c.policy)},
                      {"addresses", sw->fdb().learned()},
                      {"table", sw->fdb().capacity()},
                      {"evicted", sw->fdb().evicted()},
                      {"groups", sw->snooping().groups()}};
  }
  json groups = json::object();
  for (const auto &[name, g] : d.config().groups)
    groups[name] = {{"switch", g.on},
                    {"vlan", describe(g.vlan)},
                    {"policy", describe(g.policy.over(d.config().switches.at(g.on).policy))}};
  return {{"name", d.config().name}, {"file", d.file()},      {"saved", d.saved()},
          {"switches", switches},    {"port_groups", groups}, {"configuration", d.tree()}};
}

json report_ports(Daemon &d) {
  json out = json::object();
  for (const auto &[name, p] : d.ports()) {
    const GroupConfig &g = d.config().groups.at(p->config().group);
    const Adapter &a = p->on().adapter(p->index());
    const auto policy = p->config().policy.over(g.policy.over(d.config().switches.at(g.on).policy));
    json port = {{"switch", g.on},
                 {"port_group", p->config().group},
                 {"kind", p->config().kind},
                 {"state", state_of(*p)},
                 {"vlan", describe(g.vlan)},
                 {"policy", describe(policy)},
                 {"link", describe_link(p->config().link)},
                 {"device", p->device().describe()},
                 {"uplink", p->config().uplink.value_or(false)},
                 {"addresses", p->on().fdb().learned(p->index())}};
    if (!a.initial.is_zero()) {
      port["mac"] = to_string(a.initial);
      port["mac_from"] = p->config().mac.is_zero() ? "first frame" : "configuration";
      port["effective_mac"] = to_string(a.effective);
      port["guest_promiscuous"] = a.promiscuous;
    }
    if (p->misdeeds()) port["misbehaved"] = {{"times", p->misdeeds()}, {"last", p->last_misdeed()}};
    out[name] = std::move(port);
  }
  return out;
}

json report_fdb(Daemon &d) {
  json out = json::array();
  const u32 now = static_cast<u32>(d.clock().now() / 1'000'000'000) + 1;
  for (const auto &[name, sw] : d.switches()) {
    for (const auto &[port_name, p] : d.ports())
      if (const auto &a = p->on().adapter(p->index());
          &p->on() == sw && sw->connected(p->index()) && !a.initial.is_zero() && !p->config().uplink.value_or(false))
        out.push_back({{"switch", name},
                       {"vlan", nullptr},
                       {"mac", to_string(a.effective)},
                       {"port", port_name},
                       {"kind", "static"}});
    sw->fdb().for_each([&, &switch_name = name, &the_switch = *sw](const FdbEntry &e) {
      out.push_back({{"switch", switch_name},
                     {"vlan", e.key.domain().value},
                     {"mac", to_string(e.key.mac())},
                     {"port", d.port_name(the_switch, e.port)},
                     {"kind", "learned"},
                     {"age", now - e.last_seen}});
    });
  }
  return out;
}

json report_stats(Daemon &d) {
  json out = json::object();
  for (const auto &[name, p] : d.ports()) {
    const PortCounters &c = p->on().counters(p->index());
    out[name] = {{"in_frames", c.in_frames},       {"in_bytes", c.in_bytes},
                 {"out_frames", c.out_frames},     {"out_bytes", c.out_bytes},
                 {"in_broadcast", c.in_broadcast}, {"in_multicast", c.in_multicast},
                 {"flooded", c.flooded},           {"promiscuous", c.promiscuous},
                 {"moves_in", c.moves_in},         {"pinned_conflicts", c.pinned_conflicts},
                 {"misbehaved", p->misdeeds()},    {"drops", drops_of(c)}};
  }
  return out;
}

std::string report_metrics(Daemon &d) {
  std::string out;
  const auto family = [&](const char *name, const char *type, const char *help, auto value) {
    out += fmt::format("# HELP abyme_switch_{} {}\n# TYPE abyme_switch_{} {}\n", name, help, name, type);
    for (const auto &[port, p] : d.ports())
      out += fmt::format("abyme_switch_{}{{switch=\"{}\",port_group=\"{}\",port=\"{}\"}} {}\n", name,
                         label(d.config().groups.at(p->config().group).on), label(p->config().group), label(port),
                         value(*p));
  };
  const auto counter = [](u64 PortCounters::*member) {
    return [member](const ManagedPort &p) { return p.on().counters(p.index()).*member; };
  };
  family("port_in_frames_total", "counter", "Frames from the port into the switch.", counter(&PortCounters::in_frames));
  family("port_in_bytes_total", "counter", "Bytes from the port into the switch.", counter(&PortCounters::in_bytes));
  family("port_out_frames_total", "counter", "Frames out of the switch to the port.",
         counter(&PortCounters::out_frames));
  family("port_out_bytes_total", "counter", "Bytes out of the switch to the port.", counter(&PortCounters::out_bytes));
  family("port_flooded_frames_total", "counter", "Frames from the port that went to all who see their VLAN.",
         counter(&PortCounters::flooded));
  family("port_connected", "gauge", "Whether a guest or peer is connected and ready.",
         [](const ManagedPort &p) { return p.on().connected(p.index()) ? 1 : 0; });
  family("port_addresses", "gauge", "Learned addresses of the port.",
         [](const ManagedPort &p) { return p.on().fdb().learned(p.index()); });
  family("port_misbehaviour_total", "counter", "Times that the port's peer did what it must not.",
         [](const ManagedPort &p) { return p.misdeeds(); });
  out += "# HELP abyme_switch_port_drops_total Frames not delivered, by reason.\n# TYPE abyme_switch_port_drops_total "
         "counter\n";
  for (const auto &[port, p] : d.ports())
    for (const ReasonRow &r : reason_table())
      if (r.reason != DropReason::None)
        out += fmt::format(
            "abyme_switch_port_drops_total{{switch=\"{}\",port_group=\"{}\",port=\"{}\",reason=\"{}\"}} {}\n",
            label(d.config().groups.at(p->config().group).on), label(p->config().group), label(port), r.name,
            p->on().counters(p->index()).drops[static_cast<unsigned>(r.reason)]);
  return out;
}

} // namespace abyme::net
