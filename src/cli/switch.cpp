#include "base/log.hpp"
#include "cli/verbs.hpp"
#include "net/control/client.hpp"
#include "net/control/server.hpp"
#include "net/control/tables.hpp"
#include <CLI/CLI.hpp>
#include <csignal>
#include <iostream>
#include <sys/signalfd.h>

namespace abyme::cli {
namespace {

using namespace net;
using nlohmann::json;

constexpr int kFailed = 1, kBadInput = 2;

int complain(const Error &e, int status = kFailed) {
  fmt::print(stderr, "abyme switch: {}\n", e.message);
  return status;
}

struct Options {
  std::string config, socket, at = "default", output = "table";
  std::string target, name, file, filter;
  std::vector<std::string> values;
  bool metrics = false, keep = false;
};

// Stops the loop on SIGINT and SIGTERM, so that sockets are removed and devices closed.
Fd watch_signals(Loop &loop) {
  sigset_t set;
  sigemptyset(&set);
  for (int s : {SIGINT, SIGTERM}) sigaddset(&set, s);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  Fd fd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  loop.watch(fd.get(), 1 /* EPOLLIN */, [&loop](u32) { loop.stop(); });
  return fd;
}

int serve(const Options &o) {
  signal(SIGPIPE, SIG_IGN);
  const auto tree = read_config_file(o.config);
  if (!tree) return complain(tree.error(), kBadInput);
  const auto config = parse_config(*tree);
  if (!config) return complain(config.error(), kBadInput);
  HostClock clock;
  Daemon daemon(clock);
  const Fd signals = watch_signals(daemon.loop());
  ControlServer control(daemon);
  // The control socket first: it says when this switch runs already, before any port is touched.
  const std::string path = control_path(o.socket.empty() ? config->name : o.socket);
  if (auto ok = control.listen(path); !ok) return complain(ok.error());
  if (auto ok = daemon.load(*tree, o.config); !ok) return complain(ok.error());
  fmt::print(stderr, "abyme switch: {} port(s), control socket {}\n", daemon.ports().size(), path);
  daemon.loop().run();
  return 0;
}

int ask(const Options &o, const json &request, void (*table)(const json &, std::ostream &)) {
  const auto reply = control_request(control_path(o.at), request);
  if (!reply) return complain(reply.error());
  if (reply->is_string())
    std::cout << reply->get<std::string>();
  else if (o.output == "json" || !table)
    std::cout << reply->dump(2) << "\n";
  else
    table(*reply, std::cout);
  return 0;
}

// "policy.forged_transmits=accept" becomes {"policy": {"forged_transmits": "accept"}}; nothing behind the sign takes
// the setting away.
Result<json> parse_values(const std::vector<std::string> &pairs) {
  json out = json::object();
  for (const std::string &pair : pairs) {
    const auto equals = pair.find('=');
    if (equals == 0 || equals == std::string::npos)
      return fail("'{}' is no setting; expected key=value, like policy.forged_transmits=accept", pair);
    std::string pointer = "/" + pair.substr(0, equals);
    for (char &c : pointer)
      if (c == '.') c = '/';
    const auto value = read_config_text("value: " + pair.substr(equals + 1), pair);
    if (!value) return std::unexpected(value.error());
    out[json::json_pointer(pointer)] = value->root["value"];
  }
  return out;
}

int set(const Options &o) {
  const auto values = parse_values(o.values);
  if (!values) return complain(values.error(), kBadInput);
  if (const int status = ask(o, {{"op", "set"}, {"target", o.target}, {"name", o.name}, {"values", *values}}, nullptr))
    return status;
  return o.keep ? ask(o, {{"op", "save"}}, nullptr) : 0;
}

int adapter(const Options &o) {
  json request = {{"op", "adapter"}, {"port", o.name}};
  const auto values = parse_values(o.values);
  if (!values) return complain(values.error(), kBadInput);
  request.update(*values);
  return ask(o, request, nullptr);
}

int capture(const Options &o) {
  if (auto checked = PacketFilter::compile(o.filter); !checked) return complain(checked.error(), kBadInput);
  const auto done = control_capture(control_path(o.at), o.name, o.filter, o.file);
  return done ? 0 : complain(done.error());
}

CLI::App *sub(CLI::App *parent, Options *o, const char *name, const char *text) {
  auto *s = parent->add_subcommand(name, text);
  s->add_option("--switch", o->at, "Name of the switch process, or its control socket's path")->capture_default_str();
  return s;
}

} // namespace

void add_switch(CLI::App &app, int &status) {
  auto o = std::make_shared<Options>();
  auto *verb = app.add_subcommand("switch", "Run a virtual switch, or look at and change a running one");
  verb->add_option("--config", o->config, "Run the switches, port groups and ports of this YAML file");
  verb->add_option("--socket", o->socket, "Control socket (default: $XDG_RUNTIME_DIR/abyme/switch/NAME.sock)");
  const auto report = [&](const char *name, const char *text, void (*table)(const json &, std::ostream &)) {
    auto *s = sub(verb, o.get(), name, text);
    s->add_option("-o,--output", o->output, "table or json")->check(CLI::IsMember({"table", "json"}));
    s->callback([o, &status, name, table] { status = ask(*o, {{"op", o->metrics ? "metrics" : name}}, table); });
    return s;
  };
  report("show", "Switches and port groups", tables::configuration);
  report("ports", "Ports with their state", tables::ports);
  report("fdb", "Addresses and where they live", tables::fdb);
  report("stats", "Frames and drops by port", tables::stats)->add_flag("--metrics", o->metrics, "Prometheus text");

  auto *s = sub(verb, o.get(), "set", "Change a switch, port group or port; a new name adds one");
  s->add_option("target", o->target, "switch, group or port")
      ->required()
      ->check(CLI::IsMember({"switch", "group", "port"}));
  s->add_option("name", o->name)->required();
  s->add_option("values", o->values, "key=value, as in the file, with dots: policy.forged_transmits=accept")
      ->required();
  s->add_flag("--save", o->keep, "Write the configuration to its file too");
  s->callback([o, &status] { status = set(*o); });

  s = sub(verb, o.get(), "remove", "Take away a switch, port group or port");
  s->add_option("target", o->target)->required()->check(CLI::IsMember({"switch", "group", "port"}));
  s->add_option("name", o->name)->required();
  s->callback([o, &status] {
    status = ask(*o, {{"op", "remove"}, {"target", o->target}, {"name", o->name}}, nullptr);
  });

  s = sub(verb, o.get(), "adapter", "Tell the switch what a guest asked its adapter for, where its front-end cannot");
  s->add_option("port", o->name)->required();
  s->add_option("values", o->values, "mac=ADDRESS, promiscuous=true|false")->required();
  s->callback([o, &status] { status = adapter(*o); });

  s = sub(verb, o.get(), "save", "Write the running configuration to its file");
  s->callback([o, &status] { status = ask(*o, {{"op", "save"}}, nullptr); });
  s = sub(verb, o.get(), "stop", "End the switch");
  s->callback([o, &status] { status = ask(*o, {{"op", "stop"}}, nullptr); });

  s = sub(verb, o.get(), "capture", "Write the frames of a port or port group as pcapng, with drop reasons");
  s->add_option("target", o->name, "A port or a port group")->required();
  s->add_option("-w", o->file, "File; - or nothing is standard output")->default_str("-");
  s->add_option("--filter", o->filter, "An expression of tcpdump's language");
  s->callback([o, &status] { status = capture(*o); });

  verb->callback([o, verb, &status] {
    if (!verb->get_subcommands().empty()) return;
    if (!o->config.empty()) {
      status = serve(*o);
      return;
    }
    status = complain(
        Error{"expected --config FILE or one of show, ports, fdb, stats, set, remove, adapter, save, stop, capture"},
        kBadInput);
  });
}

} // namespace abyme::cli
