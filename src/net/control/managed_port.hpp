#pragma once
#include "net/control/config.hpp"
#include "net/control/link.hpp"
#include "net/ports/device.hpp"

namespace abyme::net {

// A port of the configuration at work: its device, its link's effects, and its place at a switch.
class ManagedPort final : public PortSink, public PortHost {
public:
  ManagedPort(std::string name, Loop &loop, Switch &sw);
  ~ManagedPort() override;

  // Attaches to the switch and opens the device.
  [[nodiscard]] Result<void> open(const PortConfig &config, const PortRules &rules, u32 switch_mtu);
  // Everything that can change while the device stays.
  void set(const PortConfig &config, const PortRules &rules);
  [[nodiscard]] bool same_device(const PortConfig &config) const;
  // What the guest's adapter asks for, from who runs the guest.
  void adapter_asks(std::optional<MacAddress> effective, std::optional<bool> promiscuous) override;

  [[nodiscard]] const std::string &name() const { return name_; }
  [[nodiscard]] PortIndex index() const { return index_; }
  [[nodiscard]] const PortConfig &config() const { return config_; }
  [[nodiscard]] Switch &on() const { return sw_; }
  [[nodiscard]] const PortDevice &device() const { return *device_; }
  [[nodiscard]] u64 misdeeds() const { return misdeeds_; }
  [[nodiscard]] const std::string &last_misdeed() const { return last_misdeed_; }

  void transmit(std::span<Egress> frames) override;
  void received(std::span<Frame> frames) override;
  void connected(bool is) override;
  void announce(MacAddress mac) override { sw_.announce(index_, mac); }
  void misbehaved(std::string_view what) override;
  void lost(DropReason reason, const Frame &frame) override { sw_.account_drop(index_, reason, frame); }

private:
  void apply_adapter();
  void transmit_now(std::span<Egress> frames);
  [[nodiscard]] u32 mtu() const;

  std::string name_;
  Loop &loop_;
  Switch &sw_;
  PortIndex index_ = kNoPort;
  PortConfig config_;
  LinkLine inward_, outward_;
  u64 misdeeds_ = 0;
  std::string last_misdeed_;
  std::unique_ptr<PortDevice> device_; // last: it may report while it closes
};

} // namespace abyme::net
