#include "machine/stats.hpp"
#include "base/fd.hpp"
#include "machine/console/file_console.hpp"
#include <fcntl.h>
#include <nlohmann/json.hpp>

namespace abyme::machine {
namespace {

std::string to_json(const RunStats &stats) {
  const double seconds = static_cast<double>(stats.nanoseconds) / 1e9;
  nlohmann::ordered_json json{{"engine", stats.engine},
                              {"cpus", stats.cpus},
                              {"wall_seconds", seconds},
                              {"instructions", nullptr},
                              {"instructions_per_second", nullptr},
                              {"resets", stats.resets},
                              {"end", name(stats.ended.why)},
                              {"exit_status", exit_status(stats.ended)}};
  if (stats.instructions != 0) {
    json["instructions"] = stats.instructions;
    json["instructions_per_second"] = static_cast<double>(stats.instructions) / seconds;
  }
  return json.dump(2) + "\n";
}

} // namespace

Result<void> write_stats(const RunStats &stats, const std::string &path) {
  const Fd file(path == "-" ? dup(STDOUT_FILENO)
                            : ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!file) return fail_errno("--stats " + path);
  const std::string text = to_json(stats);
  if (!write_all(file.get(), {reinterpret_cast<const u8 *>(text.data()), text.size()}))
    return fail_errno("--stats " + path);
  return {};
}

} // namespace abyme::machine
