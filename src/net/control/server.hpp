#pragma once
#include "net/control/daemon.hpp"

namespace abyme::net {

// The control socket: one JSON object a line in, one out: {"ok": true, "result": …} or {"ok": false, "error": "…"}.
// Operations: show, ports, fdb, stats, metrics, set {target, name, values}, remove {target, name}, adapter {port, mac?,
// promiscuous?}, save, stop, capture {target, filter?} (after whose answer the connection carries pcapng until it is
// closed).
class ControlServer {
public:
  explicit ControlServer(Daemon &daemon) : daemon_(daemon) {}
  ~ControlServer();
  [[nodiscard]] Result<void> listen(const std::string &path);

private:
  void accept();
  void take(const std::shared_ptr<Stream> &client, std::string &pending, std::string_view bytes);
  void answer(const std::shared_ptr<Stream> &client, const std::string &line);
  [[nodiscard]] Result<nlohmann::json> run(const nlohmann::json &request, const std::shared_ptr<Stream> &client,
                                           bool &streams);
  [[nodiscard]] Result<nlohmann::json> set(const nlohmann::json &request);
  [[nodiscard]] Result<nlohmann::json> remove(const nlohmann::json &request);
  [[nodiscard]] Result<nlohmann::json> adapter(const nlohmann::json &request);
  Daemon &daemon_;
  std::string path_;
  Fd listener_;
};

// Where a switch's control socket is: a path as it stands, otherwise $XDG_RUNTIME_DIR/abyme/switch/NAME.sock.
[[nodiscard]] std::string control_path(const std::string &name);

} // namespace abyme::net
