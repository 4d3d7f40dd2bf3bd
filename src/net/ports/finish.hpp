#pragma once
#include "net/frame/offload.hpp"
#include "net/switch/port.hpp"

namespace abyme::net {

// Calls `send` for a frame that a port can take as it is, or for each of what software makes of it. `send` gives the
// outcome of one frame.
template <class Send> void send_finished(Egress &e, OffloadSupport support, FrameBatch &scratch, Send send) {
  if (supported(e.frame->offload, support)) {
    e.outcome = send(*e.frame, e.edit);
    return;
  }
  finish_offloads(*e.frame, scratch, [&](std::span<Frame> frames) {
    for (const Frame &f : frames)
      if (const DropReason r = send(f, e.edit); r != DropReason::None) e.outcome = r;
  });
}

} // namespace abyme::net
