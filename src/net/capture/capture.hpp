#pragma once
#include "net/capture/pcapng.hpp"
#include "net/control/stream.hpp"
#include "net/switch/switch.hpp"
#include <map>
#include <memory>
#include <set>

namespace abyme::net {

class Daemon;

// A compiled filter: a program of the classic packet filter, as libpcap makes it (pcap_compile) and runs it.
struct FilterStep {
  u16 code;
  u8 jump_true, jump_false;
  u32 operand;
};
class PacketFilter {
public:
  // Compiles an expression of tcpdump's language; empty text passes everything.
  [[nodiscard]] static Result<PacketFilter> compile(const std::string &expression);
  [[nodiscard]] bool passes(std::span<const u8> bytes) const;

private:
  std::vector<FilterStep> steps_;
};

// Live captures of ports, each to a client that reads a stream of pcapng.
class Captures {
public:
  explicit Captures(Daemon &daemon) : daemon_(daemon) {}
  // `target` is a port or a port group. The client gets what happens from now on; what it does not read in time is left
  // out and counted.
  [[nodiscard]] Result<void> open(const std::string &target, PacketFilter filter, std::shared_ptr<Stream> client);
  void observe(const Switch &sw, const FrameEvent &event);
  void ports_changed(); // perhaps one of a captured group is new
  void close_all() { sessions_.clear(); }

private:
  struct Session {
    std::string target;
    PacketFilter filter;
    std::shared_ptr<Stream> client;
    std::map<std::string, u32> interfaces; // port → number in the capture
    u64 missed = 0;
  };
  [[nodiscard]] bool covers(const Session &s, const std::string &port) const;
  void watch_ports();
  void write(Session &s, const std::string &port, const FrameEvent &event);
  Daemon &daemon_;
  std::vector<std::unique_ptr<Session>> sessions_;
};

} // namespace abyme::net
