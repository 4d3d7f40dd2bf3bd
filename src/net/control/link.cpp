#include "net/control/link.hpp"
#include <algorithm>

namespace abyme::net {

LinkLine::LinkLine(Loop &loop, u64 seed, Deliver deliver)
    : loop_(loop), deliver_(std::move(deliver)), random_(static_cast<u32>(seed | 1)) {}

LinkLine::~LinkLine() { clear(); }

void LinkLine::clear() {
  waiting_.clear();
  bytes_ = 0;
  if (timer_) loop_.cancel(std::exchange(timer_, 0));
}

DropReason LinkLine::put(const LinkSettings &s, const Frame &frame, TagEdit edit) {
  std::uniform_real_distribution<double> unit(0, 1);
  if (s.loss > 0 && unit(random_) < s.loss) return DropReason::LinkLoss;
  if (bytes_ + frame.length > s.queue) return DropReason::LinkQueue;
  const Nanoseconds now = loop_.clock().now();
  Nanoseconds due = std::max(now, line_free_);
  if (s.rate) line_free_ = due += u64{wire_length(frame, edit)} * 8'000'000'000 / s.rate;
  due += s.delay;
  if (s.jitter) due += static_cast<Nanoseconds>(unit(random_) * static_cast<double>(s.jitter));
  if (!waiting_.empty()) due = std::max(due, waiting_.back().due);
  Waiting w{.due = due, .bytes = {frame.data, frame.data + frame.length}, .frame = frame, .edit = edit};
  w.bytes.resize(frame.length + 16); // as much slack as a batch leaves
  waiting_.push_back(std::move(w));
  bytes_ += frame.length;
  schedule();
  return DropReason::None;
}

void LinkLine::schedule() {
  if (timer_ || waiting_.empty()) return;
  timer_ = loop_.at(waiting_.front().due, [this] {
    timer_ = 0;
    release();
  });
}

void LinkLine::release() {
  const Nanoseconds now = loop_.clock().now();
  while (!waiting_.empty() && waiting_.front().due <= now) {
    Waiting w = std::move(waiting_.front());
    waiting_.pop_front();
    bytes_ -= w.frame.length;
    w.frame.data = w.bytes.data();
    deliver_(w.frame, w.edit);
  }
  schedule();
}

} // namespace abyme::net
