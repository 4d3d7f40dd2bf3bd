#pragma once
#include "net/control/daemon.hpp"

// What the control socket tells of a running switch, as JSON; the command line makes tables of it.
namespace abyme::net {

[[nodiscard]] nlohmann::json report_configuration(Daemon &daemon);
[[nodiscard]] nlohmann::json report_ports(Daemon &daemon);
[[nodiscard]] nlohmann::json report_fdb(Daemon &daemon);
[[nodiscard]] nlohmann::json report_stats(Daemon &daemon);
[[nodiscard]] std::string report_metrics(Daemon &daemon); // Prometheus' text format

} // namespace abyme::net
