#pragma once
#include "net/loop/loop.hpp"
#include "net/switch/port.hpp"
#include <deque>
#include <functional>
#include <random>

namespace abyme::net {

// What a port's link does to frames, in each direction by itself.
struct LinkSettings {
  bool up = true;
  double loss = 0;                   // part of frames lost, 0 to 1
  Nanoseconds delay = 0, jitter = 0; // jitter adds up to as much, evenly spread; frames keep their order
  u64 rate = 0;                      // bits a second; 0: any
  u32 queue = 1u << 20;              // bytes that may wait
  bool operator==(const LinkSettings &) const = default;
  [[nodiscard]] bool shapes() const { return loss > 0 || delay || jitter || rate; }
};

// One direction of a link with effects: holds copies of frames until they are due.
class LinkLine {
public:
  using Deliver = std::function<void(Frame &frame, TagEdit edit)>;
  LinkLine(Loop &loop, u64 seed, Deliver deliver);
  ~LinkLine();
  // None when the frame is on its way.
  [[nodiscard]] DropReason put(const LinkSettings &settings, const Frame &frame, TagEdit edit);
  void clear();

private:
  struct Waiting {
    Nanoseconds due;
    std::vector<u8> bytes;
    Frame frame;
    TagEdit edit;
  };
  void release();
  void schedule();
  Loop &loop_;
  Deliver deliver_;
  std::minstd_rand random_;
  std::deque<Waiting> waiting_;
  Nanoseconds line_free_ = 0;
  u64 bytes_ = 0;
  Loop::TimerId timer_ = 0;
};

} // namespace abyme::net
