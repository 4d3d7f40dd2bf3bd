#pragma once
#include "net/loop/loop.hpp"
#include "net/switch/port.hpp"
#include <nlohmann/json.hpp>

namespace abyme::net {

// What a port's device tells the switch. Lives longer than the device.
class PortHost {
public:
  virtual ~PortHost() = default;
  virtual void received(std::span<Frame> frames) = 0;
  virtual void connected(bool is) = 0;
  virtual void adapter_asks(std::optional<MacAddress> effective, std::optional<bool> promiscuous) = 0;
  virtual void announce(MacAddress mac) = 0;
  // The other side did what it must not. The device has already cut it off or undone it; this is for the log and the
  // counters.
  virtual void misbehaved(std::string_view what) = 0;
  virtual void lost(DropReason reason,
                    const Frame &frame) = 0; // a frame that transmit() had taken, or that could not be received
};

// One port kind at work: where a port's frames come from and go to.
class PortDevice : public PortSink {
public:
  [[nodiscard]] virtual nlohmann::json describe() const = 0; // its state, for people
  // MTU of the wire beneath; nothing: no limit of its own.
  [[nodiscard]] virtual std::optional<u32> mtu() const { return std::nullopt; }
};

struct PortContext {
  Loop &loop;
  PortHost &host;
  u32 mtu = 0; // of the switch
};

using PortOptions = nlohmann::json; // the kind's own keys of the port's entry

// A port kind. A row of the registry in kinds.cpp.
struct PortKind {
  std::string_view name;
  std::string_view keys; // its option names, comma-separated, for errors and --help
  bool uplink;           // whether its ports are uplinks unless the file says otherwise
  Result<std::unique_ptr<PortDevice>> (*open)(const PortContext &, const PortOptions &);
};

[[nodiscard]] std::span<const PortKind> port_kinds();
[[nodiscard]] Result<const PortKind *> find_kind(std::string_view name);

} // namespace abyme::net
