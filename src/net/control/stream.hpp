#pragma once
#include "base/fd.hpp"
#include "net/loop/loop.hpp"
#include <functional>
#include <span>
#include <string>

namespace abyme::net {

// A client's connection on the loop: bytes to it wait while it does not read, and never make the switch wait.
class Stream : public std::enable_shared_from_this<Stream> {
public:
  Stream(Loop &loop, Fd socket) : loop_(loop), socket_(std::move(socket)) {}
  ~Stream();
  // `on_bytes` gets what the client sends.
  void start(std::function<void(std::string_view)> on_bytes);
  void write(std::span<const u8> bytes);
  void write(std::string_view text) { write(std::span(reinterpret_cast<const u8 *>(text.data()), text.size())); }
  void close_when_sent();
  void on_close(std::function<void()> run) { on_close_ = std::move(run); }
  [[nodiscard]] std::size_t unsent() const { return out_.size() - sent_; }

private:
  void ready(u32 events);
  void flush();
  void close();
  Loop &loop_;
  Fd socket_;
  std::function<void(std::string_view)> on_bytes_;
  std::function<void()> on_close_;
  std::vector<u8> out_;
  std::size_t sent_ = 0;
  bool closing_ = false;
  bool waiting_ = false; // for the client to read
  Loop::TimerId flush_timer_ = 0;
};

} // namespace abyme::net
