#pragma once
#include "net/switch/port.hpp"

namespace abyme::net {

// A frame where it entered or left a watched port, with what became of it there.
struct FrameEvent {
  PortIndex port = kNoPort;
  bool entering = true;
  const Frame *frame = nullptr;
  TagEdit edit = TagEdit::Keep; // as it leaves
  DropReason reason = DropReason::None;
};

class FrameObserver {
public:
  virtual ~FrameObserver() = default;
  virtual void observe(const FrameEvent &event) = 0;
};

// What an operator should know of; the switch says it, whoever listens writes it down.
class SwitchEvents {
public:
  virtual ~SwitchEvents() = default;
  virtual void dropped(PortIndex port, DropReason reason, const Frame &frame) = 0; // the first few of each reason
  virtual void flapping(FdbKey key, PortIndex from, PortIndex to) = 0;
  virtual void duplicate_address(MacAddress mac, PortIndex owner, PortIndex other) = 0;
  virtual void guard_tripped(PortIndex port) = 0;
};

} // namespace abyme::net
