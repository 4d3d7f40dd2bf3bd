#include "cli/verbs.hpp"
#include <fmt/format.h>

namespace abyme::cli {

void add_version(CLI::App &app, int &status) {
  app.add_subcommand("version", "Print the version")->callback([&status] {
    fmt::print("abyme {}\n", ABYME_VERSION);
    status = 0;
  });
}

} // namespace abyme::cli
