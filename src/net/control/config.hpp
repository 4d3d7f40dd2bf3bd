#pragma once
#include "net/control/link.hpp"
#include "net/ports/device.hpp"
#include "net/switch/switch.hpp"
#include <map>
#include <optional>
#include <string>

namespace abyme::net {

struct LearningOverride {
  std::optional<bool> enabled = {}, flooding = {}, drop_over_limit = {};
  std::optional<u32> limit = {};
  bool operator==(const LearningOverride &) const = default;
  [[nodiscard]] LearningRules over(const LearningRules &base) const {
    return {.enabled = enabled.value_or(base.enabled),
            .flooding = flooding.value_or(base.flooding),
            .drop_over_limit = drop_over_limit.value_or(base.drop_over_limit),
            .limit = limit.value_or(base.limit)};
  }
};

struct SwitchConfig {
  SwitchSettings settings = {};
  SecurityPolicy policy = {};
  LearningOverride learning = {};
};

struct GroupConfig {
  std::string on; // its switch
  VlanSettings vlan = {};
  SecurityOverride policy = {};
  LearningOverride learning = {};
  std::optional<BpduAction> bpdu = {};
  std::optional<u32> storm_limit = {};
};

struct PortConfig {
  std::string group, kind;
  PortOptions options = PortOptions::object();
  MacAddress mac = {}; // zero: the first that its guest uses
  SecurityOverride policy = {};
  LearningOverride learning = {};
  std::optional<u32> storm_limit = {}, mtu = {};
  std::optional<bool> uplink = {};
  bool assume_promiscuous = false; // the guest's wish cannot be heard through this front-end: take it as given
  LinkSettings link = {};
};

// What the file says. Everything about switches, port groups and ports that outlives the process.
struct Config {
  std::string name = "default"; // of the control socket
  std::map<std::string, SwitchConfig> switches;
  std::map<std::string, GroupConfig> groups;
  std::map<std::string, PortConfig> ports;
};

// A configuration as a tree, and where in its file each entry stands.
struct ConfigTree {
  nlohmann::json root = nlohmann::json::object();
  std::string file;
  std::map<std::string, int> lines; // by JSON pointer, from 1; only what came from the file
};

[[nodiscard]] Result<ConfigTree> read_config_file(const std::string &path);
[[nodiscard]] Result<ConfigTree> read_config_text(const std::string &text, const std::string &name);
// Checks everything; an unknown key's error lists the known ones.
[[nodiscard]] Result<Config> parse_config(const ConfigTree &tree);
// Replaces the file by the tree, whole or not at all.
[[nodiscard]] Result<void> write_config_file(const std::string &path, const nlohmann::json &root);
// One scalar as YAML would read it: a number, a truth value, null or text.
[[nodiscard]] nlohmann::json parse_scalar(const std::string &text);

} // namespace abyme::net
