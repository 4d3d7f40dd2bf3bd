#pragma once
#include "net/capture/capture.hpp"
#include "net/control/managed_port.hpp"
#include <map>

namespace abyme::net {

// A switch of the configuration at work.
struct ManagedSwitch;

// All switches and ports of one process. Applies configurations: what stays the same is not touched.
class Daemon {
public:
  explicit Daemon(const Clock &clock);
  ~Daemon();

  // The first configuration. `file` may be empty: then save() has nowhere to go.
  [[nodiscard]] Result<void> load(const ConfigTree &tree, const std::string &file);
  // Merges changes into the running configuration (RFC 7386) and applies the result, whole or not at all.
  [[nodiscard]] Result<void> change(const nlohmann::json &patch);
  [[nodiscard]] Result<void> save();

  [[nodiscard]] Loop &loop() { return loop_; }
  [[nodiscard]] const Config &config() const { return config_; }
  [[nodiscard]] const nlohmann::json &tree() const { return tree_.root; }
  [[nodiscard]] const std::string &file() const { return file_; }
  [[nodiscard]] bool saved() const { return saved_; }
  [[nodiscard]] const std::map<std::string, std::unique_ptr<ManagedPort>> &ports() const { return ports_; }
  [[nodiscard]] std::vector<std::pair<std::string, const Switch *>> switches() const;
  [[nodiscard]] ManagedPort *port(const std::string &name);
  [[nodiscard]] std::string port_name(const Switch &sw, PortIndex index) const;
  [[nodiscard]] Captures &captures() { return captures_; }
  [[nodiscard]] const Clock &clock() const { return clock_; }

private:
  [[nodiscard]] Result<void> apply(const Config &next);
  [[nodiscard]] Result<void> apply_port(const std::string &name, const PortConfig &port, const Config &next);
  [[nodiscard]] PortRules rules_of(const PortConfig &port, const Config &config);
  void tick();

  const Clock &clock_;
  Loop loop_;
  Captures captures_;
  ConfigTree tree_;
  std::string file_;
  bool saved_ = true;
  Config config_;
  std::map<std::string, u32> group_numbers_;
  std::map<std::string, std::unique_ptr<ManagedSwitch>> switches_;
  std::map<std::string, std::unique_ptr<ManagedPort>> ports_; // before switches_ in destruction: they detach
};

} // namespace abyme::net
