#include "net/control/managed_port.hpp"
#include "base/log.hpp"

namespace abyme::net {

ManagedPort::ManagedPort(std::string name, Loop &loop, Switch &sw)
    : name_(std::move(name)), loop_(loop), sw_(sw), inward_(loop, std::hash<std::string>{}(name_),
                                                            [this](Frame &f, TagEdit) {
                                                              sw_.input(index_, {&f, 1});
                                                            }),
      outward_(loop, std::hash<std::string>{}(name_) + 1, [this](Frame &f, TagEdit edit) {
        Egress e{.frame = &f, .edit = edit};
        device_->transmit({&e, 1});
        if (e.outcome != DropReason::None) lost(e.outcome, f);
      }) {}

ManagedPort::~ManagedPort() {
  device_.reset();
  if (index_ != kNoPort) sw_.detach(index_);
}

Result<void> ManagedPort::open(const PortConfig &config, const PortRules &rules, u32 switch_mtu) {
  config_ = config;
  index_ = sw_.attach(rules, config.mac, *this);
  if (index_ == kNoPort) return fail("port '{}': a switch has at most {} ports", name_, kMaxPorts);
  const auto kind = find_kind(config.kind);
  if (!kind) return std::unexpected(kind.error());
  auto device = (*kind)->open({.loop = loop_, .host = *this, .mtu = config.mtu.value_or(switch_mtu)}, config.options);
  if (!device) return fail("port '{}' ({}): {}", name_, config.kind, device.error().message);
  device_ = std::move(*device);
  return {};
}

bool ManagedPort::same_device(const PortConfig &config) const {
  return config.kind == config_.kind && config.options == config_.options && config.mtu == config_.mtu;
}

void ManagedPort::set(const PortConfig &config, const PortRules &rules) {
  const bool comes_up = config.link.up && !config_.link.up;
  const bool other_mac = config.mac != config_.mac;
  const bool other_wish = config.assume_promiscuous != config_.assume_promiscuous;
  if (!config.link.shapes()) {
    inward_.clear();
    outward_.clear();
  }
  config_ = config;
  sw_.set_rules(index_, rules);
  if (comes_up) sw_.clear_guard(index_);
  if (other_mac)
    sw_.set_adapter(index_, {.initial = config.mac, .effective = config.mac, .promiscuous = config.assume_promiscuous});
  if (other_wish && !other_mac) adapter_asks(std::nullopt, config.assume_promiscuous);
}

void ManagedPort::adapter_asks(std::optional<MacAddress> effective, std::optional<bool> promiscuous) {
  Adapter a = sw_.adapter(index_);
  a.effective = effective.value_or(a.effective);
  a.promiscuous = promiscuous.value_or(a.promiscuous);
  sw_.set_adapter(index_, a);
}

void ManagedPort::connected(bool is) {
  log::info("port '{}': {}", name_, is ? "connected" : "disconnected");
  sw_.set_connected(index_, is);
  if (is && config_.assume_promiscuous) adapter_asks(std::nullopt, true);
}

void ManagedPort::misbehaved(std::string_view what) {
  constexpr u64 kSaid = 20; // a peer must not fill the log
  last_misdeed_ = what;
  if (++misdeeds_ <= kSaid) log::warn("port '{}': {}", name_, what);
  if (misdeeds_ == kSaid) log::warn("port '{}': further misbehaviour is only counted", name_);
}

void ManagedPort::received(std::span<Frame> frames) {
  if (config_.link.up && !config_.link.shapes()) return sw_.input(index_, frames);
  for (const Frame &f : frames) {
    const DropReason r = config_.link.up ? inward_.put(config_.link, f, TagEdit::Keep) : DropReason::LinkDown;
    if (r != DropReason::None) lost(r, f);
  }
}

u32 ManagedPort::mtu() const {
  const u32 own = config_.mtu.value_or(~u32{0});
  return std::min(own, device_ ? device_->mtu().value_or(own) : own);
}

void ManagedPort::transmit(std::span<Egress> frames) {
  if (!config_.link.up || !device_) {
    for (Egress &e : frames) e.outcome = config_.link.up ? DropReason::Disconnected : DropReason::LinkDown;
    return;
  }
  if (!config_.link.shapes()) return transmit_now(frames);
  for (Egress &e : frames) e.outcome = outward_.put(config_.link, *e.frame, e.edit);
}

void ManagedPort::transmit_now(std::span<Egress> frames) {
  const u32 limit = mtu();
  if (limit == ~u32{0}) return device_->transmit(frames);
  // Rare: an MTU below the switch's. Runs of frames that fit go on together.
  std::size_t first = 0;
  for (std::size_t i = 0; i <= frames.size(); i++) {
    const bool cut =
        i == frames.size() || (frames[i].frame->offload.gso_type == kGsoNone &&
                               wire_length(*frames[i].frame, frames[i].edit) > limit + kEthernetHeader + kTagBytes);
    if (!cut) continue;
    if (i > first) device_->transmit(frames.subspan(first, i - first));
    if (i < frames.size()) frames[i].outcome = DropReason::MtuExceeded;
    first = i + 1;
  }
}

} // namespace abyme::net
