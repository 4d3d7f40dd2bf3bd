#include "machine/console/raw_terminal.hpp"
#include <array>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <termios.h>

namespace abyme::machine {
namespace {

// A signal handler has nothing but globals.
std::atomic<int> g_terminal = -1; // the terminal in raw mode
termios g_settings;               // what it had before; valid while g_terminal is set

constexpr std::array kFatalSignals{SIGSEGV, SIGBUS,  SIGILL, SIGFPE, SIGABRT, SIGTRAP,
                                   SIGSYS,  SIGQUIT, SIGHUP, SIGINT, SIGTERM};
std::array<struct sigaction, kFatalSignals.size()> g_previous_handlers;

void restore() {
  const int fd = g_terminal.exchange(-1);
  if (fd >= 0) tcsetattr(fd, TCSANOW, &g_settings);
}

// Restores and hands the signal back to whoever had it before: usually its default, death.
void restore_and_die(int signal) {
  restore();
  for (size_t i = 0; i < kFatalSignals.size(); i++)
    if (kFatalSignals[i] == signal) sigaction(signal, &g_previous_handlers[i], nullptr);
  raise(signal);
}

void set_raw(int fd) {
  termios raw = g_settings;
  cfmakeraw(&raw);
  raw.c_oflag |= OPOST; // our own messages end lines with \n alone
  tcsetattr(fd, TCSANOW, &raw);
}

} // namespace

Result<std::unique_ptr<RawTerminal>> RawTerminal::enter(int fd) {
  if (tcgetattr(fd, &g_settings) != 0) return fail_errno("console: reading the terminal's settings");
  static const bool at_exit = std::atexit(restore) == 0;
  if (!at_exit) return fail("console: atexit failed");
  struct sigaction action {};
  action.sa_handler = restore_and_die;
  for (size_t i = 0; i < kFatalSignals.size(); i++) sigaction(kFatalSignals[i], &action, &g_previous_handlers[i]);
  g_terminal = fd;
  set_raw(fd);
  return std::unique_ptr<RawTerminal>(new RawTerminal);
}

RawTerminal::~RawTerminal() {
  restore();
  for (size_t i = 0; i < kFatalSignals.size(); i++) sigaction(kFatalSignals[i], &g_previous_handlers[i], nullptr);
}

void RawTerminal::again() {
  if (const int fd = g_terminal; fd >= 0) set_raw(fd);
}

} // namespace abyme::machine
