#include "net/capture/capture.hpp"
#include "net/control/daemon.hpp"
#include <algorithm>
#include <ctime>
#include <pcap/pcap.h>

namespace abyme::net {
namespace {

constexpr std::size_t kBehind = 8u << 20; // bytes that a client may leave unread before frames are left out

u64 wall_nanoseconds() {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  return static_cast<u64>(t.tv_sec) * 1'000'000'000 + static_cast<u64>(t.tv_nsec);
}

std::string comment_of(const FrameEvent &e) {
  std::string out =
      fmt::format("{}, VLAN {}", e.entering ? "into the switch" : "out of the switch", e.frame->vlan.value);
  if (e.reason != DropReason::None) out += fmt::format(", dropped: {} ({})", name(e.reason), row(e.reason).rule);
  if (e.frame->offload.flags & kNeedsChecksum) out += ", checksum left to the receiver";
  if (e.frame->offload.gso_type != kGsoNone)
    out += fmt::format(", to be segmented at {} bytes", e.frame->offload.gso_size);
  return out;
}

} // namespace

Result<PacketFilter> PacketFilter::compile(const std::string &expression) {
  PacketFilter out;
  if (expression.empty()) return out;
  pcap_t *handle = pcap_open_dead(DLT_EN10MB, 262144);
  bpf_program program{};
  if (pcap_compile(handle, &program, expression.c_str(), 1, PCAP_NETMASK_UNKNOWN)) {
    const std::string why = pcap_geterr(handle);
    pcap_close(handle);
    return fail("filter '{}': {}", expression, why);
  }
  for (u32 i = 0; i < program.bf_len; i++) {
    const bpf_insn &n = program.bf_insns[i];
    out.steps_.push_back({n.code, n.jt, n.jf, n.k});
  }
  pcap_freecode(&program);
  pcap_close(handle);
  return out;
}

bool PacketFilter::passes(std::span<const u8> bytes) const {
  static_assert(sizeof(FilterStep) == sizeof(bpf_insn));
  const auto length = static_cast<u32>(bytes.size());
  return steps_.empty() ||
         bpf_filter(reinterpret_cast<const bpf_insn *>(steps_.data()), bytes.data(), length, length) != 0;
}

bool Captures::covers(const Session &s, const std::string &port) const {
  if (s.target == port) return true;
  const auto found = daemon_.ports().find(port);
  return found != daemon_.ports().end() && found->second->config().group == s.target;
}

Result<void> Captures::open(const std::string &target, PacketFilter filter, std::shared_ptr<Stream> client) {
  if (!daemon_.port(target) && !daemon_.config().groups.contains(target))
    return fail("'{}' is neither a port nor a port group; 'abyme switch ports' lists them", target);
  auto session = std::make_unique<Session>(
      Session{.target = target, .filter = std::move(filter), .client = std::move(client), .interfaces = {}});
  pcapng::Bytes head;
  pcapng::section(head, "abyme switch");
  session->client->write(head);
  session->client->on_close([this, raw = session.get()] {
    std::erase_if(sessions_, [&](const auto &s) { return s.get() == raw; });
    watch_ports();
  });
  sessions_.push_back(std::move(session));
  watch_ports();
  return {};
}

void Captures::watch_ports() {
  for (const auto &[name, port] : daemon_.ports())
    port->on().watch(port->index(),
                     std::ranges::any_of(sessions_, [&, &n = name](const auto &s) { return covers(*s, n); }));
}

void Captures::ports_changed() {
  if (!sessions_.empty()) watch_ports();
}

void Captures::observe(const Switch &sw, const FrameEvent &event) {
  const std::string port = daemon_.port_name(sw, event.port);
  for (auto &s : sessions_)
    if (covers(*s, port)) write(*s, port, event);
}

void Captures::write(Session &s, const std::string &port, const FrameEvent &event) {
  const Frame &f = *event.frame;
  std::vector<u8> bytes(wire_length(f, event.edit));
  if (f.length >= kEthernetHeader)
    copy_wire(f, event.edit, bytes.data());
  else
    std::memcpy(bytes.data(), f.data, f.length);
  if (!s.filter.passes(bytes)) return;
  if (s.client->unsent() > kBehind) {
    s.missed++;
    return;
  }
  pcapng::Bytes out;
  auto found = s.interfaces.find(port);
  if (found == s.interfaces.end()) {
    found = s.interfaces.emplace(port, static_cast<u32>(s.interfaces.size())).first;
    pcapng::interface(out, port, fmt::format("port group {}", daemon_.ports().at(port)->config().group));
  }
  std::string comment = comment_of(event);
  if (s.missed) comment += fmt::format("; {} frames before this one were left out", std::exchange(s.missed, 0));
  pcapng::packet(out, {.interface = found->second,
                       .nanoseconds = wall_nanoseconds(),
                       .bytes = bytes,
                       .original_length = static_cast<u32>(bytes.size()),
                       .inbound = event.entering,
                       .comment = comment});
  s.client->write(out);
}

} // namespace abyme::net
