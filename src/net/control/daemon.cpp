#include "net/control/daemon.hpp"
#include "base/log.hpp"
#include <algorithm>
#include <random>

namespace abyme::net {
namespace {

constexpr Nanoseconds kTick = 1'000'000'000;

u64 random_secret() {
  std::random_device device;
  return u64{device()} << 32 | device();
}

} // namespace

struct ManagedSwitch final : SwitchEvents, FrameObserver {
  ManagedSwitch(std::string its_name, const SwitchSettings &settings, Daemon &its_daemon)
      : name(std::move(its_name)), daemon(its_daemon), sw(settings, its_daemon.clock(), random_secret(), this) {
    sw.set_observer(this);
  }
  void dropped(PortIndex port, DropReason reason, const Frame &f) override {
    const ReasonRow &r = row(reason);
    const std::string who = f.length >= kEthernetHeader
                                ? fmt::format("from {} to {}", to_string(f.source()), to_string(f.destination()))
                                : fmt::format("of {} bytes", f.length);
    log::warn("port '{}': dropped a frame {}: {} ({}){}", daemon.port_name(sw, port), who, r.name, r.rule,
              r.setting.empty() ? "" : fmt::format("; this would allow it: {}", r.setting));
  }
  void flapping(FdbKey key, PortIndex from, PortIndex to) override {
    log::warn("switch '{}': address {} in VLAN {} keeps moving between ports '{}' and '{}'; is there a loop, or has it "
              "two owners?",
              name, to_string(key.mac()), key.domain().value, daemon.port_name(sw, from), daemon.port_name(sw, to));
  }
  void duplicate_address(MacAddress mac, PortIndex owner, PortIndex other) override {
    log::warn("switch '{}': ports '{}' and '{}' have the same MAC address {}; the first keeps it", name,
              daemon.port_name(sw, owner), daemon.port_name(sw, other), to_string(mac));
  }
  void guard_tripped(PortIndex port) override {
    log::warn("port '{}': a bridge protocol data unit came in and the BPDU guard shut the port; link: {{up: true}} "
              "opens it again",
              daemon.port_name(sw, port));
  }
  void observe(const FrameEvent &event) override { daemon.captures().observe(sw, event); }

  std::string name;
  Daemon &daemon;
  Switch sw;
};

Daemon::Daemon(const Clock &clock) : clock_(clock), loop_(clock), captures_(*this) { tick(); }

Daemon::~Daemon() {
  captures_.close_all();
  ports_.clear();
}

void Daemon::tick() {
  for (auto &[name, s] : switches_) s->sw.tick();
  loop_.at(clock_.now() + kTick, [this] { tick(); });
}

Result<void> Daemon::load(const ConfigTree &tree, const std::string &file) {
  const auto config = parse_config(tree);
  if (!config) return std::unexpected(config.error());
  file_ = file;
  tree_ = tree;
  return apply(*config);
}

Result<void> Daemon::change(const nlohmann::json &patch) {
  ConfigTree next;
  next.root = tree_.root;
  next.root.merge_patch(patch);
  const auto config = parse_config(next);
  if (!config) return std::unexpected(config.error());
  const Config before = config_;
  if (auto ok = apply(*config); !ok) {
    if (auto back = apply(before); !back)
      log::error("cannot return to the configuration before: {}", back.error().message);
    return ok;
  }
  tree_ = std::move(next);
  saved_ = false;
  return {};
}

Result<void> Daemon::save() {
  if (file_.empty()) return fail("the switch was started without --config; there is no file to save to");
  if (auto ok = write_config_file(file_, tree_.root); !ok) return ok;
  saved_ = true;
  return {};
}

PortRules Daemon::rules_of(const PortConfig &port, const Config &config) {
  const GroupConfig &group = config.groups.at(port.group);
  const SwitchConfig &sw = config.switches.at(group.on);
  PortRules r;
  r.group = group_numbers_.try_emplace(port.group, static_cast<u32>(group_numbers_.size())).first->second;
  r.vlan = make_vlan_rules(group.vlan, sw.settings.private_vlans);
  r.security = port.policy.over(group.policy.over(sw.policy));
  r.uplink = port.uplink.value_or(false);
  // Behind an uplink is a network: unknown addresses may be there, so it learns and is flooded to.
  const LearningRules base = {.enabled = r.uplink, .limit = r.uplink ? sw.settings.table_size : LearningRules{}.limit};
  r.learning = port.learning.over(group.learning.over(sw.learning.over(base)));
  r.bpdu = group.bpdu.value_or(BpduAction::Pass);
  r.storm_limit = port.storm_limit.value_or(group.storm_limit.value_or(0));
  return r;
}

Result<void> Daemon::apply_port(const std::string &name, const PortConfig &port, const Config &next) {
  const std::string &switch_name = next.groups.at(port.group).on;
  Switch &sw = switches_.at(switch_name)->sw;
  const PortRules rules = rules_of(port, next);
  const auto found = ports_.find(name);
  if (found != ports_.end() && found->second->same_device(port) && &found->second->on() == &sw) {
    found->second->set(port, rules);
    return {};
  }
  if (found != ports_.end()) ports_.erase(found);
  auto made = std::make_unique<ManagedPort>(name, loop_, sw);
  if (auto ok = made->open(port, rules, next.switches.at(switch_name).settings.mtu); !ok) return ok;
  ports_[name] = std::move(made);
  captures_.ports_changed();
  return {};
}

Result<void> Daemon::apply(const Config &next) {
  std::erase_if(ports_, [&](const auto &p) { return !next.ports.contains(p.first); });
  for (const auto &[name, s] : next.switches) {
    auto &managed = switches_[name];
    if (!managed)
      managed = std::make_unique<ManagedSwitch>(name, s.settings, *this);
    else
      managed->sw.set_settings(s.settings);
  }
  for (const auto &[name, port] : next.ports)
    if (auto ok = apply_port(name, port, next); !ok) return ok;
  std::erase_if(switches_, [&](const auto &s) { return !next.switches.contains(s.first); });
  config_ = next;
  return {};
}

std::vector<std::pair<std::string, const Switch *>> Daemon::switches() const {
  std::vector<std::pair<std::string, const Switch *>> out;
  for (const auto &[name, s] : switches_) out.emplace_back(name, &s->sw);
  return out;
}

ManagedPort *Daemon::port(const std::string &name) {
  const auto found = ports_.find(name);
  return found == ports_.end() ? nullptr : found->second.get();
}

std::string Daemon::port_name(const Switch &sw, PortIndex index) const {
  for (const auto &[name, p] : ports_)
    if (&p->on() == &sw && p->index() == index) return name;
  return "?";
}

} // namespace abyme::net
