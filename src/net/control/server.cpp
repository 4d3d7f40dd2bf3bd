#include "net/control/server.hpp"
#include "net/control/reports.hpp"
#include "net/ports/sockets.hpp"
#include <cstdlib>
#include <sys/epoll.h>
#include <unistd.h>

namespace abyme::net {
namespace {

using nlohmann::json;

constexpr std::size_t kLongestRequest = 4u << 20;

Result<std::string> text_of(const json &request, const char *key) {
  const auto found = request.find(key);
  if (found != request.end() && found->is_string()) return found->get<std::string>();
  return fail("the request needs '{}' as text", key);
}

Result<std::string> section_of(const std::string &target) {
  if (target == "switch") return "switches";
  if (target == "group") return "port_groups";
  if (target == "port") return "ports";
  return fail("'{}' cannot be set; expected switch, group or port", target);
}

} // namespace

std::string control_path(const std::string &name) {
  if (name.find('/') != std::string::npos) return name;
  const char *runtime = std::getenv("XDG_RUNTIME_DIR");
  const std::string base = runtime && *runtime ? runtime : fmt::format("/tmp/abyme-{}", getuid());
  return fmt::format("{}/abyme/switch/{}.sock", base, name);
}

ControlServer::~ControlServer() {
  if (!listener_) return;
  daemon_.loop().unwatch(listener_.get());
  unlink(path_.c_str());
}

Result<void> ControlServer::listen(const std::string &path) {
  auto fd = listen_unix(path);
  if (!fd) return std::unexpected(fd.error());
  listener_ = std::move(*fd);
  path_ = path;
  daemon_.loop().watch(listener_.get(), EPOLLIN, [this](u32) { accept(); });
  return {};
}

void ControlServer::accept() {
  Fd socket = accept_unix(listener_);
  if (!socket) return;
  auto client = std::make_shared<Stream>(daemon_.loop(), std::move(socket));
  auto pending = std::make_shared<std::string>();
  client->start([this, weak = std::weak_ptr(client), pending](std::string_view bytes) {
    if (const auto c = weak.lock()) take(c, *pending, bytes);
  });
}

void ControlServer::take(const std::shared_ptr<Stream> &client, std::string &pending, std::string_view bytes) {
  pending += bytes;
  if (pending.size() > kLongestRequest) return client->close_when_sent();
  for (auto end = pending.find('\n'); end != std::string::npos; end = pending.find('\n')) {
    const std::string line = pending.substr(0, end);
    pending.erase(0, end + 1);
    answer(client, line);
  }
}

void ControlServer::answer(const std::shared_ptr<Stream> &client, const std::string &line) {
  const json request = json::parse(line, nullptr, false);
  bool streams = false;
  json reply;
  Result<json> result =
      request.is_object() ? run(request, client, streams) : fail("a request is one JSON object a line");
  if (streams) return;
  if (result)
    reply = {{"ok", true}, {"result", std::move(*result)}};
  else
    reply = {{"ok", false}, {"error", result.error().message}};
  client->write(reply.dump(-1, ' ', false, json::error_handler_t::replace) + "\n");
}

Result<json> ControlServer::run(const json &request, const std::shared_ptr<Stream> &client, bool &streams) {
  const auto op = text_of(request, "op");
  if (!op) return std::unexpected(op.error());
  if (*op == "show") return report_configuration(daemon_);
  if (*op == "ports") return report_ports(daemon_);
  if (*op == "fdb") return report_fdb(daemon_);
  if (*op == "stats") return report_stats(daemon_);
  if (*op == "metrics") return report_metrics(daemon_);
  if (*op == "set") return set(request);
  if (*op == "remove") return remove(request);
  if (*op == "adapter") return adapter(request);
  if (*op == "save") {
    if (auto ok = daemon_.save(); !ok) return std::unexpected(ok.error());
    return json{{"file", daemon_.file()}};
  }
  if (*op == "stop") {
    constexpr Nanoseconds kToAnswer = 100'000'000;
    daemon_.loop().at(daemon_.clock().now() + kToAnswer, [this] { daemon_.loop().stop(); });
    return json::object();
  }
  if (*op != "capture")
    return fail("unknown operation '{}'; expected show, ports, fdb, stats, metrics, set, remove, adapter, save, stop "
                "or capture",
                *op);
  const auto target = text_of(request, "target");
  if (!target) return std::unexpected(target.error());
  auto filter = PacketFilter::compile(request.value("filter", ""));
  if (!filter) return std::unexpected(filter.error());
  // The answer goes first: what follows it is the capture.
  if (!daemon_.port(*target) && !daemon_.config().groups.contains(*target))
    return fail("'{}' is neither a port nor a port group", *target);
  client->write("{\"ok\":true}\n");
  streams = true;
  if (auto ok = daemon_.captures().open(*target, std::move(*filter), client); !ok) return std::unexpected(ok.error());
  return json::object();
}

Result<json> ControlServer::set(const json &request) {
  const auto target = text_of(request, "target"), name = text_of(request, "name");
  if (!target) return std::unexpected(target.error());
  if (!name) return std::unexpected(name.error());
  const auto section = section_of(*target);
  if (!section) return std::unexpected(section.error());
  const auto values = request.find("values");
  if (values == request.end() || !values->is_object()) return fail("'set' needs 'values', a mapping");
  if (auto ok = daemon_.change({{*section, {{*name, *values}}}}); !ok) return std::unexpected(ok.error());
  return daemon_.tree()[*section][*name];
}

Result<json> ControlServer::remove(const json &request) {
  const auto target = text_of(request, "target"), name = text_of(request, "name");
  if (!target) return std::unexpected(target.error());
  if (!name) return std::unexpected(name.error());
  const auto section = section_of(*target);
  if (!section) return std::unexpected(section.error());
  if (!daemon_.tree().contains(*section) || !daemon_.tree()[*section].contains(*name))
    return fail("there is no {} '{}'", *target, *name);
  if (auto ok = daemon_.change({{*section, {{*name, nullptr}}}}); !ok) return std::unexpected(ok.error());
  return json::object();
}

Result<json> ControlServer::adapter(const json &request) {
  const auto name = text_of(request, "port");
  if (!name) return std::unexpected(name.error());
  ManagedPort *port = daemon_.port(*name);
  if (!port) return fail("there is no port '{}'", *name);
  std::optional<MacAddress> mac;
  std::optional<bool> promiscuous;
  if (request.contains("mac")) {
    const auto text = text_of(request, "mac");
    const auto parsed = text ? parse_mac(*text) : std::unexpected(text.error());
    if (!parsed) return std::unexpected(parsed.error());
    mac = *parsed;
  }
  if (const auto p = request.find("promiscuous"); p != request.end()) {
    if (!p->is_boolean()) return fail("'promiscuous' is {}; expected true or false", p->dump());
    promiscuous = p->get<bool>();
  }
  port->adapter_asks(mac, promiscuous);
  return json::object();
}

} // namespace abyme::net
