#pragma once
#include <CLI/App.hpp>

// One function a verb, in the file of its name: it adds its subcommand to `app`, and its callback stores the exit status in `status`.
// 0 is success, 2 is bad input (said on standard error, with what would be right); a verb documents its others in its --help.
namespace abyme::cli {

void add_cpu_models(CLI::App &app, int &status);
void add_doctor(CLI::App &app, int &status);
void add_nest(CLI::App &app, int &status);
void add_run(CLI::App &app, int &status);
void add_switch(CLI::App &app, int &status);
void add_version(CLI::App &app, int &status);

} // namespace abyme::cli
