#include "cli/verbs.hpp"
#include <CLI/CLI.hpp>

namespace {

constexpr int kBadInput = 2;

} // namespace

int main(int argc, char **argv) {
  CLI::App app{"abyme runs hypervisors inside hypervisors, on any x86-64 Linux machine, with or without VT-x."};
  app.require_subcommand(1);
  int status = 0;
  using namespace abyme::cli;
  add_cpu_models(app, status);
  add_doctor(app, status);
  add_nest(app, status);
  add_run(app, status);
  add_switch(app, status);
  add_version(app, status);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &e) {
    const int code = app.exit(e);
    return code == 0 ? 0 : kBadInput;
  }
  return status;
}
