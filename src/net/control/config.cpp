#include "net/control/config.hpp"
#include "net/control/section.hpp"

namespace abyme::net {
namespace {

constexpr bool kAccept = true, kReject = false;

std::optional<bool> verdict(Section &s, const char *key) {
  return s.choice<bool>(key, {{"accept", kAccept}, {"reject", kReject}});
}

SecurityOverride read_policy(Section s) {
  SecurityOverride o;
  o.promiscuous = verdict(s, "promiscuous");
  o.mac_changes = verdict(s, "mac_changes");
  o.forged_transmits = verdict(s, "forged_transmits");
  o.scope = s.choice<SecurityPolicy::Scope>("promiscuous_scope", {{"switch", SecurityPolicy::Scope::Switch},
                                                                  {"port_group", SecurityPolicy::Scope::PortGroup}});
  s.done();
  return o;
}

LearningOverride read_learning(Section &s) {
  LearningOverride o;
  o.enabled = s.flag("enabled");
  o.flooding = s.flag("flooding");
  if (const auto n = s.number("limit", 0, 1u << 20)) o.limit = static_cast<u32>(*n);
  o.drop_over_limit = s.choice<bool>("limit_policy", {{"allow", false}, {"drop", true}});
  return o;
}

std::optional<u32> read_storm_limit(Section &s) {
  const auto n = s.number("storm_limit", 0, 1'000'000'000);
  return n ? std::optional(static_cast<u32>(*n)) : std::nullopt;
}

std::optional<VlanId> read_vlan(Section &s, const std::string &key, const std::string &text) {
  const auto set = parse_vlans(text);
  u16 v = 1;
  while (set && v <= kLastVlan && !set->has(VlanId{v})) v++;
  if (set && text.find_first_not_of("0123456789") == std::string::npos && v <= kLastVlan) return VlanId{v};
  s.fail_at(key, fmt::format("is '{}'; expected a VLAN from 1 to 4094", text));
  return std::nullopt;
}

void read_private_vlans(Section s, std::vector<PrivateVlan> &out) {
  for (const auto &key : s.keys()) {
    Section entry = s.section(key);
    PrivateVlan p;
    if (const auto v = read_vlan(s, key, key)) p.primary = *v;
    for (const auto *kind : {"isolated", "community"})
      for (const auto &text : entry.list(kind))
        if (const auto v = read_vlan(entry, kind, text))
          (std::string_view(kind) == "isolated" ? p.isolated : p.community).push_back(*v);
    entry.done();
    out.push_back(p);
  }
  s.done();
}

SwitchConfig read_switch(Section s) {
  SwitchConfig c;
  if (const auto n = s.number("mtu", 68, 65535)) c.settings.mtu = static_cast<u32>(*n);
  if (const auto b = s.flag("snooping")) c.settings.snooping = *b;
  c.policy = read_policy(s.section("policy")).over({});
  Section learning = s.section("mac_learning");
  c.learning = read_learning(learning);
  if (const auto n = learning.number("table", 16, 1u << 22)) c.settings.table_size = static_cast<u32>(*n);
  if (const auto *v = learning.raw("ageing"); v && *v == "none")
    c.settings.ageing_seconds.reset();
  else if (const auto d = learning.duration("ageing"))
    c.settings.ageing_seconds = std::max<u32>(1, static_cast<u32>(*d / 1'000'000'000));
  learning.done();
  read_private_vlans(s.section("private_vlans"), c.settings.private_vlans);
  s.done();
  return c;
}

void read_trunk(Section &s, VlanSettings &v) {
  v.mode = VlanMode::Trunk;
  for (const auto &text : s.list("trunk")) {
    const auto set = parse_vlans(text);
    if (!set) {
      s.fail_at("trunk", "has " + set.error().message);
      return;
    }
    for (u16 i = 0; i <= kLastVlan; i++)
      if (set->has(VlanId{i})) v.trunk.add(VlanId{i});
  }
}

// vlan: 0 (none), 1 to 4094 (access), 4095 or all (guest tagging); or trunk: with native:.
VlanSettings read_vlans(Section &s) {
  VlanSettings v;
  const auto external = s.flag("external_tagging");
  const auto vlan = s.text("vlan");
  const auto native = s.text("native");
  if (vlan && s.has("trunk")) s.fail_at("trunk", "stands beside vlan; a port group has one of them");
  if (s.raw("trunk")) read_trunk(s, v);
  if (vlan && (*vlan == "all" || *vlan == "4095")) {
    v.mode = VlanMode::Trunk;
    v.trunk = *parse_vlans("all");
  } else if (vlan && *vlan != "0" && *vlan != "none") {
    v.mode = VlanMode::Access;
    if (const auto id = read_vlan(s, "vlan", *vlan)) v.access = *id;
  }
  if (native && v.mode != VlanMode::Trunk) s.fail_at("native", "needs a trunk");
  if (native) v.native = read_vlan(s, "native", *native);
  if (external && *external && v.mode != VlanMode::None) s.fail_at("external_tagging", "needs vlan: 0");
  if (external && *external) v.mode = VlanMode::External;
  return v;
}

GroupConfig read_group(Section s) {
  GroupConfig g;
  if (const auto t = s.text("switch"))
    g.on = *t;
  else
    s.fail_at("switch", "is missing; a port group names its switch");
  g.vlan = read_vlans(s);
  g.policy = read_policy(s.section("policy"));
  Section learning = s.section("mac_learning");
  g.learning = read_learning(learning);
  learning.done();
  g.bpdu = s.choice<BpduAction>(
      "bpdu", {{"pass", BpduAction::Pass}, {"filter", BpduAction::Filter}, {"guard", BpduAction::Guard}});
  g.storm_limit = read_storm_limit(s);
  s.done();
  return g;
}

u64 read_rate(Section &s) { // bits a second, with k, M or G
  const auto text = s.text("rate");
  if (!text) return 0;
  std::size_t used = 0;
  double n = -1;
  try {
    n = std::stod(*text, &used);
  } catch (const std::exception &) {
  }
  const std::string unit = text->substr(used);
  const double factor = unit.empty() ? 1 : unit == "k" ? 1e3 : unit == "M" ? 1e6 : unit == "G" ? 1e9 : 0;
  if (n >= 0 && n * factor < 1e13 && factor > 0) return static_cast<u64>(n * factor);
  s.fail_at("rate", fmt::format("is '{}'; expected bits a second, like 10M or 1G", *text));
  return 0;
}

LinkSettings read_link(Section s) {
  LinkSettings l;
  l.up = s.flag("up").value_or(true);
  l.loss = s.fraction("loss").value_or(0);
  l.delay = s.duration("delay").value_or(0);
  l.jitter = s.duration("jitter").value_or(0);
  l.rate = read_rate(s);
  l.queue = static_cast<u32>(s.number("queue", 1600, 1u << 30).value_or(l.queue));
  s.done();
  return l;
}

// The kind's own keys go to the kind; it says itself what is wrong with their values.
void read_kind(Section &s, PortConfig &p) {
  const auto kind = s.text("kind");
  if (!kind) return s.fail_at("kind", "is missing; a port names its kind");
  const auto found = find_kind(*kind);
  if (!found) return s.fail_at("kind", found.error().message);
  p.kind = *kind;
  if (!p.uplink) p.uplink = (*found)->uplink;
  std::string_view keys = (*found)->keys;
  while (!keys.empty()) {
    const auto comma = keys.find(", ");
    const std::string key(keys.substr(0, comma));
    if (const auto *v = s.raw(key)) p.options[key] = *v;
    keys.remove_prefix(comma == std::string_view::npos ? keys.size() : comma + 2);
  }
}

PortConfig read_port(Section s) {
  PortConfig p;
  if (const auto t = s.text("port_group"))
    p.group = *t;
  else
    s.fail_at("port_group", "is missing; a port names its port group");
  p.uplink = s.flag("uplink");
  read_kind(s, p);
  if (const auto t = s.text("mac")) {
    const auto mac = parse_mac(*t);
    if (!mac)
      s.fail_at("mac", ": " + mac.error().message);
    else if (mac->is_group() || mac->is_zero())
      s.fail_at("mac", fmt::format("is {}; an adapter needs an individual address", *t));
    else
      p.mac = *mac;
  }
  p.policy = read_policy(s.section("policy"));
  Section learning = s.section("mac_learning");
  p.learning = read_learning(learning);
  learning.done();
  p.storm_limit = read_storm_limit(s);
  if (const auto n = s.number("mtu", 68, 65535)) p.mtu = static_cast<u32>(*n);
  p.assume_promiscuous = s.choice<bool>("promiscuous_request", {{"told", false}, {"assume", true}}).value_or(false);
  p.link = read_link(s.section("link"));
  s.done();
  return p;
}

template <class Map> std::string names(const Map &map) {
  std::string out;
  for (const auto &item : map) out += fmt::format("{}{}", out.empty() ? "" : ", ", item.first);
  return out.empty() ? "none" : out;
}

} // namespace

Result<Config> parse_config(const ConfigTree &tree) {
  std::optional<Error> error;
  Section s(tree, error);
  Config c;
  c.name = s.text("name").value_or(c.name);
  Section switches = s.section("switches"), groups = s.section("port_groups"), ports = s.section("ports");
  for (const auto &key : switches.keys()) c.switches[key] = read_switch(switches.section(key));
  for (const auto &key : groups.keys()) c.groups[key] = read_group(groups.section(key));
  for (const auto &key : ports.keys()) c.ports[key] = read_port(ports.section(key));
  s.done();
  for (const auto &[name, g] : c.groups)
    if (!c.switches.contains(g.on))
      groups.section(name).fail_at("switch", fmt::format("is '{}'; the switches are: {}", g.on, names(c.switches)));
  for (const auto &[name, p] : c.ports)
    if (!c.groups.contains(p.group))
      ports.section(name).fail_at("port_group",
                                  fmt::format("is '{}'; the port groups are: {}", p.group, names(c.groups)));
  if (c.name.find('/') != std::string::npos) s.fail_at("name", "has a slash; it becomes a file name");
  if (error) return std::unexpected(*error);
  return c;
}

} // namespace abyme::net
